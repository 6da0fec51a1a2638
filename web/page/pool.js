// A pool: its verdict, its objectives, its traffic, and a lane for each tier.

import { h, Keyed, rearrange, setAttribute, setPart, setStyle, setText, show } from './dom.js';
import { EndpointCard, Lever, standing } from './endpoint.js';
import { clock, elapsed, list, number, overspent, percent, seconds, share, t, target } from './words.js';

// tiersOf groups the endpoints of a pool, which must be sorted by priority.
function tiersOf(pool) {
  const tiers = [];
  for (const endpoint of pool.endpoints) {
    if (tiers.at(-1)?.priority !== endpoint.priority) tiers.push({ priority: endpoint.priority, place: tiers.length + 1, endpoints: [] });
    tiers.at(-1).endpoints.push(endpoint);
  }
  for (const tier of tiers) tier.traffic = tier.endpoints.reduce((sum, e) => sum + e.traffic, 0);
  return tiers;
}

// verdict returns a sentence on the state of a pool, and its level. A pool that answers
// needs attention if its error budget is spent too fast.
export function verdict(pool, now) {
  const v = routes(pool, now);
  const rate = burning(pool.sla);
  if (rate === null) return v;
  return { ...v, level: v.level === 'good' ? 'warn' : v.level, text: `${v.text} · ${t('verdict.burning', { rate: number(rate) })}` };
}

// burning returns the highest rate at which an error budget is spent too fast, or null.
function burning(sla) {
  const rates = [sla?.availability, sla?.latency].filter(Boolean).flatMap((o) => (o.burn ?? [])
    .map((b) => ({ rate: Math.min(b.long_rate, b.short_rate), limit: b.limit }))
    .filter((b) => o.burning || b.rate >= b.limit).map((b) => b.rate));
  return rates.length ? Math.max(...rates) : null;
}

// routes says where the calls of a pool go.
function routes(pool, now) {
  if (pool.down) return { level: 'bad', state: 'open', text: t('verdict.down') };
  const tiers = tiersOf(pool);
  const serving = tiers.filter((tier) => tier.traffic >= 0.005);
  const fine = pool.endpoints.every((e) => standing(e, now).level === 'good');
  const level = fine ? 'good' : 'warn';
  if (!serving.length) return { level: 'warn', state: 'idle', text: t('verdict.idle') };
  if (serving[0].place > 1 && serving.length === 1) return { level: 'warn', state: 'recovering', text: t('verdict.lower', { tier: serving[0].place }) };
  if (serving.length > 1) return { level, state: fine ? 'closed' : 'recovering', text: t('verdict.spread', { tiers: list(serving.map((tier) => tier.place)) }) };
  return { level, state: fine ? 'closed' : 'recovering', text: t('verdict.first') };
}

// Flow shows the traffic as one bar, divided by endpoint.
class Flow {
  constructor() {
    this.bar = h('div', { class: 'flow', role: 'img' });
    this.none = h('p', { class: 'none' }, t('traffic.out'));
    this.node = h('div', null, this.bar, this.none);
    this.segments = new Keyed(this.bar, ({ endpoint }) => {
      const name = h('span', { class: 'name' }, endpoint.name);
      const part = h('span', { class: 'part' });
      const node = h('div', { class: 'segment' }, h('div', { class: 'fill' }), h('p', null, name, part));
      return {
        node,
        update({ endpoint: e, place }) {
          setStyle(node, 'flex-grow', e.traffic.toFixed(4));
          setAttribute(node, 'data-tier', String(Math.min(place, 4)));
          setAttribute(node, 'data-size', e.traffic < 0.005 ? 'none' : e.traffic < 0.12 ? 'small' : e.traffic < 0.3 ? 'medium' : null);
          setText(part, share(e.traffic));
        },
      };
    });
  }

  update(pool, tiers) {
    const change = () => this.segments.update(
      tiers.flatMap(({ place, endpoints }) => endpoints.map((endpoint) => ({ endpoint, place }))), ({ endpoint }) => endpoint.name);
    const traffic = new Map(pool.endpoints.map((e) => [e.name, e.traffic]));
    const moved = [...traffic].reduce((sum, [name, part]) => sum + Math.abs(part - (this.traffic?.get(name) ?? 0)), 0) / 2;
    if (this.traffic && moved >= 0.03 && pool.endpoints.length <= 24) rearrange([...this.bar.children], change);
    else change();
    this.traffic = traffic;
    const parts = pool.endpoints.filter((e) => e.traffic >= 0.005).map((e) => `${e.name} ${share(e.traffic)}`);
    setAttribute(this.bar, 'aria-label', parts.length ? t('traffic.now', { list: list(parts) }) : t('traffic.none'));
    show(this.bar, parts.length > 0);
    show(this.none, parts.length === 0);
  }
}

// Objective is one objective of a pool and the rest of its error budget.
class Objective {
  constructor() {
    this.title = h('dt');
    this.achieved = h('dd', { class: 'achieved' });
    this.left = h('dd', { class: 'left' });
    this.fill = h('div', { class: 'fill' });
    this.track = h('dd', { class: 'track', 'aria-hidden': 'true' }, this.fill);
    this.burn = h('dd', { class: 'burn', title: t('burn.hint') });
    this.node = h('div', { class: 'objective' }, this.title, this.achieved, this.track, this.left, this.burn);
  }

  update({ title, achieved, left, burn, burning, met }) {
    setText(this.title, title);
    setText(this.achieved, percent(achieved));
    setText(this.left, left >= 0 ? `${t('budget-left')} ${percent(left)}` : `${t('budget-overspent')} ${overspent(-left)}`);
    setPart(this.fill, Math.min(1, Math.max(0, left)));
    setText(this.burn, burn === null ? '' : `${burning ? t('burning') : t('burn')} ${number(burn)}×`);
    setAttribute(this.node, 'data-level', burning || left <= 0 || !met ? 'bad' : left < 0.25 || burn > 1 ? 'warn' : 'good');
  }
}

class PoolSection {
  constructor(pool, history) {
    this.history = history;
    const id = `pool-${encodeURIComponent(pool.name)}`;
    this.lever = new Lever();
    this.verdict = h('p', { class: 'verdict' });
    this.incident = h('p', { class: 'incident' });
    this.calls = h('dd');
    this.denied = h('dd');
    this.deniedFact = h('div', { title: t('retries-denied.hint') }, h('dt', null, t('retries-denied')), this.denied);
    this.waiting = h('dd');
    this.waitingFact = h('div', { title: t('waiting-calls.hint') }, h('dt', null, t('waiting-calls')), this.waiting);
    this.objectives = h('dl', { class: 'objectives', 'aria-label': t('sla') });
    this.objectiveParts = new Keyed(this.objectives, () => new Objective());
    this.flow = new Flow();
    const lanes = h('ol', { class: 'lanes' });
    this.lanes = new Keyed(lanes, (tier) => new Lane(pool.name, tier, history));
    this.node = h('section', { class: 'pool', id, 'aria-labelledby': `${id}-name`, tabindex: '-1' },
      h('header', null,
        h('div', { class: 'title' }, this.lever.node, h('h2', { id: `${id}-name` }, pool.name), this.verdict),
        h('dl', { class: 'figures' }, h('div', null, h('dt', null, t('calls')), this.calls), this.waitingFact, this.deniedFact)),
      this.incident, this.objectives, this.flow.node, lanes);
  }

  update({ pool, now }) {
    const v = verdict(pool, now);
    setAttribute(this.node, 'data-level', v.level);
    this.lever.update(v, 0.5);
    setText(this.verdict, v.text);
    show(this.incident, Boolean(pool.incident));
    setText(this.incident, pool.incident ? incident(pool, now) : '');
    setText(this.calls, t('per-second', { n: number(pool.calls_per_second) }));
    setText(this.denied, number(pool.retries_denied));
    show(this.deniedFact, pool.retries_denied > 0);
    const waiting = pool.waiting ? pool.waiting.calls : 0;
    setText(this.waiting, number(waiting));
    show(this.waitingFact, waiting > 0);
    const objectives = objectivesOf(pool.sla);
    this.objectiveParts.update(objectives, (objective) => objective.key);
    show(this.objectives, objectives.length > 0);
    const tiers = tiersOf(pool);
    this.flow.update(pool, tiers);
    this.lanes.update(tiers.map((tier) => ({ ...tier, now })), (tier) => tier.priority);
  }

  remove() { for (const lane of this.lanes) lane.remove(); }
}

// incident says since when an outage lasts, its cause, and its cost.
function incident({ down, incident: i }, now) {
  const text = t(down ? 'incident.down' : 'incident.degraded', { at: clock(new Date(i.start)), for: elapsed(now - Date.parse(i.start)), cause: i.cause });
  return `${text} · ${t('incident.cost', { failed: number(i.calls_failed), saved: number(i.calls_saved) })}`;
}

// objectivesOf returns the objectives of a pool.
function objectivesOf(sla) {
  if (!sla) return [];
  const window = elapsed(sla.window_seconds * 1000);
  const objective = (key, title, { achieved, met, budget_left: left, burning, burn }) => ({
    key, achieved, met, left, burning,
    title: t('over-window', { objective: title, window }),
    burn: burn?.length ? burn[0].long_rate : null,
  });
  const { availability, latency } = sla;
  return [
    availability && objective('availability', t('objective.availability', { objective: target(availability.objective) }), availability),
    latency && objective('latency', t('objective.latency', { quantile: `p${target(latency.objective).slice(0, -1)}`, target: seconds(sla.target_seconds) }), latency),
  ].filter(Boolean);
}

class Lane {
  constructor(pool, tier, history) {
    this.title = h('h3');
    this.traffic = h('p', { class: 'tier-traffic' });
    this.swatch = h('span', { class: 'swatch', 'aria-hidden': 'true' }, h('span', { class: 'fill' }));
    const cards = h('ul', { class: 'cards' });
    this.cards = new Keyed(cards, ({ endpoint }) => new EndpointCard(pool, endpoint, history));
    this.node = h('li', { class: 'lane' }, h('div', { class: 'lane-head' }, this.swatch, this.title, this.traffic), cards);
  }

  update({ place, endpoints, traffic, now }) {
    setAttribute(this.node, 'data-tier', String(Math.min(place, 4)));
    setText(this.title, t('tier', { n: place }));
    setText(this.traffic, t('of-traffic', { share: share(traffic) }));
    this.cards.update(endpoints.map((endpoint) => ({ endpoint, now })), ({ endpoint }) => endpoint.name);
  }

  remove() { for (const card of this.cards) card.remove(); }
}

// Pools shows all pools.
export class Pools {
  constructor(node, history) {
    this.parts = new Keyed(node, ({ pool }) => new PoolSection(pool, history));
  }

  update(pools, now) { this.parts.update(pools.map((pool) => ({ pool, now })), ({ pool }) => pool.name); }

  remove() { for (const part of this.parts) part.remove(); }
}
