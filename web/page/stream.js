// The connection to the proxy: server-sent events, and what to think of silence.

const staleAfter = 4000; // ms; snapshots come every second
const giveUpAfter = 12000; // of silence on a connection that claims to be open
const firstPause = 1000;
const longestPause = 15000;

// connect follows a stream until the page is left. on has a function for each
// event of the stream, and `state(name, silentFor)`, which is called about every
// second: `connecting` (never heard of), `live`, `stale` or `lost`; silentFor is in
// ms.
export function connect(url, on) {
  let source = null;
  let opened = 0; // when the connection was last begun
  let heard = 0; // when anything was last heard
  let pause = firstPause;
  let retryAt = 0;
  let lastEventId = '';

  const open = () => {
    source?.close();
    opened = performance.now();
    retryAt = 0;
    // EventSource repeats its last ID where it reconnects by itself only
    source = new EventSource(lastEventId ? `${url}?after=${encodeURIComponent(lastEventId)}` : url);
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return;
      retryAt = performance.now() + pause; // refused: the browser will not try again
      pause = Math.min(longestPause, pause * 2);
    };
    for (const name of ['hello', 'history', 'snapshot', 'event', 'ready']) {
      source.addEventListener(name, (message) => {
        heard = performance.now();
        pause = firstPause;
        if (message.lastEventId) lastEventId = message.lastEventId;
        on[name]?.(JSON.parse(message.data));
        if (name === 'snapshot') report();
      });
    }
  };

  const report = () => {
    const now = performance.now();
    const silent = now - Math.max(heard, 0);
    if (retryAt && now >= retryAt) open();
    // a connection may be dead without anybody having said so, as after a sleep
    if (!retryAt && source.readyState === EventSource.OPEN && now - Math.max(heard, opened) > giveUpAfter) open();
    if (!heard) on.state(now - opened > staleAfter || retryAt ? 'lost' : 'connecting', silent);
    else if (silent < staleAfter) on.state('live', silent);
    else on.state(source.readyState === EventSource.OPEN ? 'stale' : 'lost', silent);
  };

  open();
  setInterval(report, 1000);
  addEventListener('online', open);
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && performance.now() - Math.max(heard, opened) > staleAfter) open();
  });
}
