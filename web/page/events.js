// Incidents and events, newest first. An incident is folded to a few lines and holds its events.

import { h, Keyed, setAttribute, setText, show } from './dom.js';
import { get, go } from './route.js';
import { cause, causeText, clock, elapsed, known, list, number, reason, seconds, t } from './words.js';

const most = 300;

// calmAfter is how long in ms after a failover the next one is told apart.
const calmAfter = 600000;

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
    this.incidents = [];
  }

  incidents = [];

  // groups returns incidents with their events, and the other events, newest first. Failovers
  // from the same pool that no incident holds and that follow each other are one group.
  groups(pools) {
    const groups = new Map();
    const running = pools.filter((pool) => pool.incident).map((pool) => ({ ...pool.incident, up: !pool.down }));
    for (const incident of [...this.incidents, ...running]) {
      groups.set(`${incident.pool}/${incident.id}`, { key: `${incident.pool}/${incident.id}`, incident, pool: incident.pool, at: Date.parse(incident.start), events: [] });
    }
    const moving = new Map();
    for (const event of this.events) {
      const at = Date.parse(event.at);
      if (event.incident) {
        const key = `${event.pool}/${event.incident}`;
        if (!groups.has(key)) groups.set(key, { key, incident: { start: event.at, over: true }, pool: event.pool, at, events: [] });
        groups.get(key).events.push(event);
        continue;
      }
      const before = moving.get(event.pool);
      if (event.kind === 'failover' && before && at - before.last < calmAfter) {
        before.events.push(event);
        before.last = at;
        before.at = at;
        continue;
      }
      const group = { key: `event/${event.id}`, pool: event.pool, at, last: at, events: [event] };
      groups.set(group.key, group);
      if (event.kind === 'failover') moving.set(event.pool, group);
    }
    const under = (group) => Number(Boolean(group.incident && !group.incident.end && !group.incident.over));
    return [...groups.values()].sort((a, b) => under(b) - under(a) || b.at - a.at || b.events.at(-1)?.id - a.events.at(-1)?.id || 0).slice(0, most);
  }
}

// kinds are the choices of the filter, and the events of each.
const kinds = {
  incident: [],
  failover: ['failover'],
  breaker: ['breaker_opened', 'breaker_recovering', 'breaker_closed'],
  pool: ['all_down', 'pool_up', 'incident_over'],
  cooldown: ['endpoint_held'],
  budget: ['sla_burning', 'sla_met_again'],
  anomaly: ['anomaly'],
  operator: ['operator', 'scheduled'],
};

// filtered returns the groups that a filter lets through. With a kind of event, each event
// stands alone.
function filtered(groups, { pool, endpoint, kind }) {
  const about = (event) => event.endpoint === endpoint || event.to === endpoint;
  let list = groups.filter((group) => (!pool || group.pool === pool) && (!endpoint || group.events.some(about)
    || group.incident?.endpoints?.some((one) => one.name === endpoint)));
  if (kind === 'incident') list = list.filter((group) => group.incident);
  else if (kind) {
    list = list.flatMap((group) => group.events).filter((event) => kinds[kind]?.includes(event.kind) && (!endpoint || about(event)))
      .map((event) => ({ key: `event/${event.id}`, pool: event.pool, at: Date.parse(event.at), events: [event] })).sort((a, b) => b.events[0].id - a.events[0].id);
  }
  return list;
}

const levels = {
  breaker_opened: 'bad', all_down: 'bad', sla_burning: 'bad',
  breaker_recovering: 'warn', endpoint_held: 'warn', anomaly: 'warn', failover: 'warn', fleet_lost: 'warn',
};

// sentence describes an event.
export function sentence(event) {
  if (event.kind === 'operator') return ordered(event);
  const key = event.kind === 'fleet_lost' && event.reason === 'full' ? 'event.fleet_full' : `event.${event.kind}`;
  const endpoint = event.endpoint && event.scope ? t('scoped', { endpoint: event.endpoint, scope: event.scope }) : event.endpoint;
  const values = { endpoint: endpoint ?? '', to: event.to ?? '', subject: endpoint || event.pool, fleet: event.details?.fleet ?? '' };
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
  else if (event.reason && event.kind !== 'fleet_lost') parts.push(reason(event.reason));
  if (d.error) parts.push(d.error);
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

const glyph = (kind) => h('svg', { class: 'glyph', viewBox: '0 0 16 16', width: '16', height: '16', 'aria-hidden': 'true', focusable: 'false' }, h('path', { d: glyphs[kind] ?? 'M5 8H11' }));

// row shows one event.
export function row(event, several) {
  const at = new Date(event.at);
  const detail = more(event);
  return h('li', { class: 'event', 'data-level': levels[event.kind] ?? 'good', 'data-incident': event.incident ? String(event.incident) : null },
    h('time', { datetime: event.at, title: at.toLocaleString() }, clock(at)),
    glyph(event.kind),
    h('p', null,
      h('span', { class: 'what' }, sentence(event)),
      event.count > 1 ? h('span', { class: 'times', title: t('times.hint', { n: event.count }) }, t('times', { n: event.count })) : null,
      h('span', { class: 'why' }, [several && event.endpoint && event.pool, detail].filter(Boolean).join(' · '))));
}

// Rows shows events, newest first, each drawn once.
class Rows {
  constructor(list, several) {
    this.rows = new Keyed(list, (event) => ({ node: row(event, several), update() {} }));
  }

  update(events) { this.rows.update([...events].reverse(), (event) => event.id); }
}

// Single is an event that stands alone.
class Single {
  constructor(group, several) {
    this.node = row(group.events[0], several);
  }

  update() {}
}

// Folded holds the events of an incident, or failovers. Its events are drawn while it is open.
class Folded {
  constructor(group, several) {
    this.several = several;
    this.time = h('span', { class: 'when' });
    this.what = h('span', { class: 'what' });
    this.why = h('span', { class: 'why' });
    this.cost = h('span', { class: 'why cost' });
    this.list = h('ol', { class: 'inner' });
    this.missing = h('p', { class: 'hint' });
    this.rows = new Rows(this.list, false);
    this.details = h('details', { ontoggle: () => this.open() },
      h('summary', null, this.glyph = glyph(group.incident ? 'breaker_opened' : 'failover'), h('span', { class: 'summary' }, this.what, this.time, this.why, this.cost)),
      this.list, this.missing);
    this.node = h('li', { class: 'group', 'data-incident': group.incident ? group.key : null }, this.details);
  }

  update({ group, now }) {
    this.group = group;
    const { incident: i, events } = group;
    const last = events.at(-1);
    if (!i) {
      setAttribute(this.node, 'data-level', 'warn');
      const times = events.reduce((sum, event) => sum + (event.count ?? 1), 0);
      setText(this.what, t('failovers', { n: number(times) }));
      setText(this.time, `${clock(new Date(events[0].at))} – ${clock(new Date(last.at))}`);
      setText(this.why, [this.several && group.pool, list([...new Set(events.map((event) => sentence(event)))].slice(0, 4))].filter(Boolean).join(' · '));
    } else {
      const over = i.end || i.over;
      const down = i.kind === 'down';
      setAttribute(this.node, 'data-level', over ? 'good' : down && !i.up ? 'bad' : 'warn');
      setText(this.what, t(`incident.${down ? 'down' : 'degraded'}.${over ? 'over' : down && i.up ? 'up' : 'on'}`));
      const start = new Date(i.start);
      setText(this.time, i.end ? t('incident.span', { from: clock(start), to: clock(new Date(i.end)), for: elapsed(Date.parse(i.end) - start) })
        : over ? clock(start) : t('incident.since', { at: clock(start), for: elapsed(now - start) }));
      const out = (i.endpoints ?? []).map((one) => (one.times > 1 ? `${one.name} ${t('times', { n: one.times })}` : one.name));
      setText(this.why, [this.several && group.pool, i.cause && causeText(i.cause), out.length && list(out.slice(0, 6))].filter(Boolean).join(' · '));
      setText(this.cost, i.calls_failed === undefined ? '' : t('incident.cost', { failed: number(i.calls_failed), saved: number(i.calls_saved) }));
    }
    this.open();
  }

  // open draws the events, if they are to be seen.
  open() {
    if (!this.details.open || !this.group) return;
    this.rows.update(this.group.events);
    show(this.missing, !this.group.events.length);
    setText(this.missing, t('events.forgotten'));
  }
}

// Selection is a filter in the page's address.
class Selection {
  constructor(parameter, label, every) {
    this.parameter = parameter;
    this.every = every;
    this.select = h('select', { id: `events-${parameter}`, onchange: () => this.choose() });
    this.node = h('div', { class: 'filter' }, h('label', { for: `events-${parameter}`, class: 'visually-hidden' }, label), this.select);
  }

  choose() { go({ [this.parameter]: this.select.value, ...(this.parameter === 'in' && { at: '' }) }, true); }

  // update offers values, each with its text, and chooses that of the address.
  update(options) {
    const key = JSON.stringify(options);
    if (key !== this.key) {
      this.key = key;
      this.select.replaceChildren(h('option', { value: '' }, this.every), ...options.map(([value, text]) => h('option', { value }, text)));
    }
    const wanted = get(this.parameter);
    const value = options.some(([one]) => one === wanted) ? wanted : '';
    if (this.select.value !== value) this.select.value = value;
    return value;
  }
}

// EventList shows a log.
export class EventList {
  constructor(log) {
    this.log = log;
    this.pools = [];
    this.inPool = new Selection('in', t('pool'), t('all-pools'));
    this.at = new Selection('at', t('column.endpoint'), t('all-endpoints'));
    this.kind = new Selection('kind', t('kind'), t('all-kinds'));
    this.list = h('ol', { class: 'events', tabindex: '0', 'aria-labelledby': 'events-title' });
    this.none = h('p', { class: 'none' });
    this.node = h('aside', { class: 'log', 'aria-labelledby': 'events-title' },
      h('header', null, h('h2', { id: 'events-title' }, t('events')),
        h('div', { class: 'filters' }, this.inPool.node, this.at.node, this.kind.node)), this.list, this.none);
    this.draw();
  }

  // update takes the pools of a snapshot.
  update(pools, now) {
    this.pools = pools;
    this.now = now;
    this.draw();
  }

  // soon draws once for all events that come together.
  soon() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = undefined;
      this.draw();
    });
  }

  draw() {
    const several = this.pools.length > 1;
    show(this.inPool.node, several);
    const pool = this.inPool.update(this.pools.map(({ name }) => [name, name]));
    const names = [...new Set(this.pools.filter(({ name }) => !pool || name === pool).flatMap(({ endpoints }) => endpoints.map(({ name }) => name)))].sort();
    const filter = { pool, endpoint: this.at.update(names.map((name) => [name, name])), kind: this.kind.update(Object.keys(kinds).map((kind) => [kind, t(`kind.${kind}`)])) };
    const groups = filtered(this.log.groups(this.pools), filter);
    const shape = `${several} ${pool}`;
    if (shape !== this.shape) {
      this.shape = shape;
      this.list.replaceChildren();
      const prefix = several && !pool;
      this.parts = new Keyed(this.list, ({ group }) => (group.incident || group.events.length > 1 ? new Folded(group, prefix) : new Single(group, prefix)));
    }
    this.parts.update(groups.map((group) => ({ group, now: this.now ?? Date.now() })), ({ group }) => group.key + (group.incident || group.events.length < 2 ? '' : '+'));
    show(this.list, groups.length > 0);
    show(this.none, !groups.length);
    setText(this.none, t(filter.pool || filter.endpoint || filter.kind ? 'events.none-of' : 'events.none'));
  }
}
