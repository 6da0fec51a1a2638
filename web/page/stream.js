// The connection to the proxy: server-sent events, and a judgement of silence.

const staleAfter = 4000; // ms; a snapshot comes every second
const giveUpAfter = 12000; // ms of silence on a connection that seems open
const firstPause = 1000;
const longestPause = 15000;

// connect follows a stream until the page closes. on has a function for each event of the
// stream, and `state(name, silentFor)`, called about every second. name is `connecting` (no
// data yet), `live`, `stale` or `lost`; silentFor is in ms.
export function connect(url, on) {
  let source = null;
  let opened = 0; // time of the last connection attempt
  let heard = 0; // time of the last data
  let pause = firstPause;
  let retryAt = 0;
  let lastEventId = '';

  const open = () => {
    source?.close();
    opened = performance.now();
    retryAt = 0;
    // EventSource repeats its last ID only when it reconnects by itself.
    source = new EventSource(lastEventId ? `${url}?after=${encodeURIComponent(lastEventId)}` : url);
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return;
      retryAt = performance.now() + pause; // refused: the browser does not retry
      pause = Math.min(longestPause, pause * 2);
    };
    for (const name of ['hello', 'history', 'incidents', 'snapshot', 'event', 'ready']) {
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
    // A connection can be dead without an error, for example after sleep.
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
