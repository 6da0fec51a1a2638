// Events of one pool or of all, newest first.

import { h, setText, show } from './dom.js';
import { cause, clock, elapsed, known, list, number, reason, seconds, t } from './words.js';

const most = 300;

// Log keeps events, each once.
export class Log {
  events = [];
  seen = new Set();

  // add returns whether the event is new.
  add(event) {
    if (this.seen.has(event.id)) return false;
    this.seen.add(event.id);
    this.events.push(event);
    if (this.events.length > most) this.seen.delete(this.events.shift().id);
    return true;
  }

  clear() {
    this.events = [];
    this.seen.clear();
  }
}

const levels = {
  breaker_opened: 'bad', all_down: 'bad', sla_burning: 'bad',
  breaker_recovering: 'warn', endpoint_held: 'warn', anomaly: 'warn', failover: 'warn',
};

// sentence describes an event.
export function sentence(event) {
  if (event.kind === 'operator') return ordered(event);
  const key = `event.${event.kind}`;
  const values = {
    endpoint: event.endpoint ?? '', to: event.to ?? '',
    subject: event.endpoint || event.pool,
  };
  return known(key) ? t(key, values).trim() : `${event.kind} ${event.endpoint ?? ''}`.trim();
}

function ordered({ endpoint, reason: action, details }) {
  const settings = ['weight', 'priority'].filter((name) => details?.[name] !== undefined)
    .map((name) => t(`setting.${name}`, { value: details[name] === 'configured' ? t('configured') : details[name] }));
  return known(`ordered.${action}`) ? t(`ordered.${action}`, { subject: endpoint, settings: list(settings) }) : `${endpoint} ${action}`;
}

// more gives the reason and the details of an event.
function more(event) {
  const d = event.details ?? {};
  const parts = [];
  if (event.kind === 'operator') parts.push(d.note && `“${d.note}”`);
  else if (event.reason) parts.push(reason(event.reason));
  if (d.cause) parts.push(cause({ what: d.cause, method: d.method, path: d.path }));
  if (event.kind === 'failover' && d.duration_seconds) parts.push(seconds(d.duration_seconds));
  if (d.causes) parts.push(d.causes);
  if (d.down_seconds) parts.push(t('event.down-for', { for: elapsed(d.down_seconds * 1000) }));
  if (d.calls_failed !== undefined) parts.push(t('event.calls-failed', { n: number(d.calls_failed) }));
  if (d.until && !Number.isNaN(Date.parse(d.until))) parts.push(t('note.until-short', { at: clock(new Date(d.until)) }));
  return parts.filter(Boolean).join(' · ');
}

const glyphs = {
  breaker_opened: 'M1 11H4M12 11H15M4 11L11 5',
  breaker_recovering: 'M1 11H4M12 11H15M4 11L12 8.5',
  breaker_closed: 'M1 11H15',
  failover: 'M2 5H9L13 11M10 11H13V8',
  endpoint_held: 'M6 4V12M10 4V12',
  all_down: 'M4 4L12 12M12 4L4 12',
  pool_up: 'M3 8L7 12L13 4',
  incident_over: 'M3 8L7 12L13 4',
  scheduled: 'M8 3V8L11 10M8 1.5A6.5 6.5 0 1 1 8 14.5A6.5 6.5 0 0 1 8 1.5',
  operator: 'M8 7.5A2.5 2.5 0 1 1 8 2.5A2.5 2.5 0 0 1 8 7.5M3 14C3.5 10 12.5 10 13 14',
  sla_burning: 'M2 4L8 9L14 13',
  sla_met_again: 'M2 13L8 8L14 4',
  anomaly: 'M1 10H5L7 3L9 13L11 10H15',
};

function row(event, several) {
  const at = new Date(event.at);
  const detail = more(event);
  return h('li', { 'data-level': levels[event.kind] ?? 'good', 'data-incident': event.incident ? String(event.incident) : null },
    h('time', { datetime: event.at, title: at.toLocaleString() }, clock(at)),
    h('svg', { class: 'glyph', viewBox: '0 0 16 16', width: '16', height: '16', 'aria-hidden': 'true' }, h('path', { d: glyphs[event.kind] ?? 'M5 8H11' })),
    h('p', null,
      h('span', { class: 'what' }, sentence(event)),
      event.count > 1 ? h('span', { class: 'times', title: t('times.hint', { n: event.count }) }, t('times', { n: event.count })) : null,
      h('span', { class: 'why' }, [several && event.endpoint && event.pool, detail].filter(Boolean).join(' · '))));
}

// EventList shows a log.
export class EventList {
  constructor(log) {
    this.log = log;
    this.several = false;
    this.pool = '';
    this.select = h('select', { id: 'events-pool', onchange: () => { this.pool = this.select.value; this.draw(); } });
    this.filter = h('div', { class: 'filter' }, h('label', { for: 'events-pool', class: 'visually-hidden' }, t('pool')), this.select);
    this.list = h('ol', { class: 'events', tabindex: '0', 'aria-labelledby': 'events-title' });
    this.none = h('p', { class: 'none' });
    this.node = h('aside', { class: 'log', 'aria-labelledby': 'events-title' },
      h('header', null, h('h2', { id: 'events-title' }, t('events')), this.filter), this.list, this.none);
    this.update([]);
    this.draw();
  }

  // update sets the list of pools.
  update(pools) {
    const names = pools.map((pool) => pool.name);
    const key = names.join('\n');
    if (key === this.names) return;
    this.names = key;
    this.select.replaceChildren(h('option', { value: '' }, t('all-pools')), ...names.map((name) => h('option', { value: name }, name)));
    if (!names.includes(this.pool)) this.pool = '';
    this.select.value = this.pool;
    const several = names.length > 1;
    show(this.filter, several);
    if (several !== this.several) {
      this.several = several;
      this.draw();
    }
  }

  add(event) {
    if (this.pool && event.pool !== this.pool) return;
    this.list.prepend(row(event, this.several && !this.pool));
    while (this.list.childElementCount > most) this.list.lastElementChild.remove();
    this.mark();
  }

  draw() {
    const events = this.log.events.filter((event) => !this.pool || event.pool === this.pool);
    this.list.replaceChildren(...events.reverse().map((event) => row(event, this.several && !this.pool)));
    this.mark();
  }

  mark() {
    const empty = !this.list.childElementCount;
    show(this.list, !empty);
    show(this.none, empty);
    setText(this.none, t(this.pool ? 'events.none-of' : 'events.none'));
  }
}
