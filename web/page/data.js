// Data that the page asks for, beside its stream.

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;

// below returns the address of something below the page, such as `report`. It is absolute: in a page
// that was opened with a user and a password in its address, fetch refuses relative ones.
export const below = (name) => new URL(meta('stream').replace(/stream$/, name), location.origin + location.pathname).href;

// offers is what the proxy lets the page do: `report` and `levers`.
export const offers = { report: false, levers: false };

// detail returns what the proxy knows of a pool, or of an endpoint in its own view. It is null
// if there is no such pool or endpoint, and throws an error if the proxy does not answer.
export async function detail(pool, endpoint = '') {
  const response = await fetch(`${below('detail')}?${new URLSearchParams(endpoint ? { pool, endpoint } : { pool })}`);
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(`${response.status}`);
  return response.json();
}

// act carries out an operator action. It returns '' or why that failed.
export async function act(body) {
  try {
    const response = await fetch(below('actions'), {
      method: 'POST', headers: { 'Content-Type': 'application/json', 'Failover-Action': '1' }, body: JSON.stringify(body),
    });
    if (response.ok) return '';
    const text = await response.text();
    try { return JSON.parse(text).error; } catch { return text || String(response.status); }
  } catch (error) {
    return error.message;
  }
}

// Poll asks again and again while the page is visible, until it is stopped. It gives what it gets to
// `take`, and errors to `miss`.
export class Poll {
  constructor(ask, take, every, miss = () => {}) {
    this.ask = ask;
    this.take = take;
    this.every = every;
    this.miss = miss;
    this.run();
  }

  async run() {
    if (!document.hidden) {
      try {
        const value = await this.ask();
        if (!this.stopped) this.take(value);
      } catch (error) {
        if (!this.stopped) this.miss(error);
      }
    }
    if (!this.stopped) this.timer = setTimeout(() => this.run(), this.every);
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
  }
}
