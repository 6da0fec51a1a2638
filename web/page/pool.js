// Pools: the ill ones first, the well ones folded to a line each; with verdict, objectives and
// endpoints.

import { BudgetLine } from './charts.js';
import { below, detail, offers, Poll } from './data.js';
import { h, Keyed, rearrange, setAttribute, setPart, setStyle, setText, show } from './dom.js';
import { EndpointCard, Lever, standing } from './endpoint.js';
import { all, get, go } from './route.js';
import { EndpointTable } from './table.js';
import { causeText, clock, elapsed, language, list, number, overspent, percent, seconds, share, t, target } from './words.js';

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
export function burning(sla) {
  const rates = [sla?.availability, sla?.latency].filter(Boolean).flatMap((o) => (o.burn ?? [])
    .map((b) => ({ rate: Math.min(b.long_rate, b.short_rate), limit: b.limit }))
    .filter((b) => o.burning || b.rate >= b.limit).map((b) => b.rate));
  return rates.length ? Math.max(...rates) : null;
}

// takesSome reports whether an endpoint takes requests, if only of some scopes.
const takesSome = (e) => e.weight && !e.draining && e.share && !e.held_until;

// scopesDown returns the scopes whose requests no endpoint takes.
function scopesDown(pool) {
  const takes = (e, name) => {
    if (!takesSome(e)) return false;
    const scope = e.scopes?.find((one) => one.scope === name);
    return !scope || scope.share > 0 && !scope.held_until;
  };
  const names = [...new Set(pool.endpoints.flatMap((e) => (e.scopes ?? []).map((scope) => scope.scope)))];
  return names.filter((name) => !pool.endpoints.some((e) => takes(e, name)));
}

// routes says where the requests of a pool go.
function routes(pool, now) {
  const refused = scopesDown(pool);
  if (pool.down) {
    const text = refused.length && pool.endpoints.some(takesSome) ? t('verdict.down-scopes', { scopes: list(refused) }) : t('verdict.down');
    return { level: 'bad', state: 'open', text };
  }
  if (refused.length) return { level: 'warn', state: 'recovering', text: t('verdict.scopes', { scopes: list(refused) }) };
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
    this.line = new BudgetLine();
    this.node = h('div', { class: 'objective' }, this.title, this.achieved, this.track, this.left, this.burn,
      h('dd', { class: 'over-time' }, this.line.node));
  }

  update({ title, achieved, left, burn, burning, met, at, over }) {
    this.line.update(at, over);
    setText(this.title, title);
    setText(this.achieved, percent(achieved));
    setText(this.left, left >= 0 ? `${t('budget-left')} ${percent(left)}` : `${t('budget-overspent')} ${overspent(-left)}`);
    setPart(this.fill, Math.min(1, Math.max(0, left)));
    setText(this.burn, burn === null ? '' : `${burning ? t('burning') : t('burn')} ${number(burn)}×`);
    setAttribute(this.node, 'data-level', burning || left <= 0 || !met ? 'bad' : left < 0.25 || burn > 1 ? 'warn' : 'good');
  }
}

// rank orders pools: the worse they are, the further up; of those that need attention, the ones
// whose error budget burns come first.
const ranks = { bad: 0, warn: 2, good: 3 };
const rank = (pool, level) => (level === 'warn' && burning(pool.sla) !== null ? 1 : ranks[level]);

// folded reports whether a pool is shown as one line: one that is well is, if there are
// others, unless the viewer wants otherwise.
function folded(pool, level, several) {
  if (all('open').includes(pool.name)) return false;
  return all('fold').includes(pool.name) || several && level === 'good';
}

// fold folds or opens a pool for the viewer.
function fold(name, whether) {
  const without = (parameter) => all(parameter).filter((other) => other !== name);
  go({ open: whether ? without('open') : [...without('open'), name], fold: whether ? [...without('fold'), name] : without('fold') }, true);
}

class PoolSection {
  constructor(pool, history) {
    this.history = history;
    this.name = pool.name;
    const id = `pool-${encodeURIComponent(pool.name)}`;
    this.lever = new Lever();
    this.verdict = h('p', { class: 'verdict' });
    this.button = h('button', { type: 'button', class: 'fold', 'aria-controls': `${id}-body`, onclick: () => fold(pool.name, this.button.getAttribute('aria-expanded') === 'true') },
      h('svg', { class: 'arrow', viewBox: '0 0 12 12', width: '12', height: '12', 'aria-hidden': 'true', focusable: 'false' }, h('path', { d: 'M4 2L8 6L4 10' })), pool.name);
    this.calls = h('dd');
    this.denied = h('dd');
    this.deniedFact = h('div', { title: t('retries-denied.hint') }, h('dt', null, t('retries-denied')), this.denied);
    this.waiting = h('dd');
    this.waitingFact = h('div', { title: t('waiting-calls.hint') }, h('dt', null, t('waiting-calls')), this.waiting);
    this.budget = h('dd');
    this.budgetFact = h('div', null, h('dt', null, t('budget-left')), this.budget);
    this.body = h('div', { class: 'pool-body', id: `${id}-body` });
    this.node = h('section', { class: 'pool', id, 'aria-labelledby': `${id}-name`, tabindex: '-1' },
      h('header', null,
        h('div', { class: 'title' }, this.lever.node, h('h2', { id: `${id}-name` }, this.button), this.verdict),
        h('dl', { class: 'figures' }, h('div', null, h('dt', null, t('calls')), this.calls), this.budgetFact, this.waitingFact, this.deniedFact)),
      this.body);
  }

  update({ pool, verdict: v, several, now }) {
    const shut = folded(pool, v.level, several);
    setAttribute(this.node, 'data-level', v.level);
    setAttribute(this.node, 'data-folded', shut);
    setAttribute(this.button, 'aria-expanded', String(!shut));
    this.lever.update(v, 0.5);
    setText(this.verdict, v.text);
    setText(this.calls, t('per-second', { n: number(pool.calls_per_second) }));
    setText(this.denied, number(pool.retries_denied));
    show(this.deniedFact, pool.retries_denied > 0);
    const waiting = pool.waiting ? pool.waiting.calls : 0;
    setText(this.waiting, number(waiting));
    show(this.waitingFact, waiting > 0);
    const availability = pool.sla?.availability;
    show(this.budgetFact, shut && Boolean(availability));
    if (availability) setText(this.budget, leftOf(availability.budget_left));
    show(this.body, !shut);
    if (shut) {
      this.remove();
      return;
    }
    if (!this.details) {
      this.details = new PoolDetails(this.name, this.history);
      this.body.append(this.details.node);
    }
    this.details.update(pool, now);
  }

  remove() {
    this.details?.remove();
    this.details?.node.remove();
    this.details = null;
  }
}

// leftOf writes what is left of an error budget.
const leftOf = (left) => (left >= 0 ? percent(left) : `−${overspent(-left)}`);

// PoolDetails is what an open pool shows: its incident, its objectives, and its endpoints.
class PoolDetails {
  constructor(name, history) {
    this.name = name;
    this.history = history;
    this.incident = h('p', { class: 'incident' });
    this.objectives = h('dl', { class: 'objectives', 'aria-label': t('sla') });
    this.objectiveParts = new Keyed(this.objectives, () => new Objective());
    this.report = h('p', { class: 'report' },
      h('a', { href: `${below('report')}?${new URLSearchParams({ pool: name, lang: language() })}`, target: '_blank', rel: 'noopener' }, t('report')));
    this.endpoints = h('div');
    this.node = h('div', null, this.incident, this.objectives, this.report, this.endpoints);
    show(this.report, false);
  }

  update(pool, now) {
    show(this.incident, Boolean(pool.incident));
    setText(this.incident, pool.incident ? incident(pool, now) : '');
    const objectives = objectivesOf(pool.sla, this.budget);
    this.objectiveParts.update(objectives, (objective) => objective.key);
    show(this.objectives, objectives.length > 0);
    show(this.report, offers.report);
    if (objectives.length && !this.poll) {
      this.poll = new Poll(() => detail(this.name), (found) => { this.budget = found?.budget; }, 60000);
    }
    const view = get('view') === 'table' ? 'table' : 'cards';
    if (view !== this.view) {
      this.view = view;
      this.part?.remove();
      this.part = view === 'table' ? new EndpointTable(this.name, this.history) : new Lanes(this.name, this.history);
      this.endpoints.replaceChildren(this.part.node);
    }
    this.part.update(pool, now);
  }

  remove() {
    this.poll?.stop();
    this.part?.remove();
  }
}

// Lanes shows where the traffic goes, and the endpoints as cards, a lane for each tier.
class Lanes {
  constructor(name, history) {
    this.flow = new Flow();
    const lanes = h('ol', { class: 'lanes' });
    this.lanes = new Keyed(lanes, (tier) => new Lane(name, tier, history));
    this.node = h('div', null, this.flow.node, lanes);
  }

  update(pool, now) {
    const tiers = tiersOf(pool);
    this.flow.update(pool, tiers);
    this.lanes.update(tiers.map((tier) => ({ ...tier, now })), (tier) => tier.priority);
  }

  remove() { for (const lane of this.lanes) lane.remove(); }
}

// incident says since when an outage lasts, its cause, and its cost.
function incident({ down, incident: i }, now) {
  const text = t(down ? 'incident.down' : 'incident.degraded', { at: clock(new Date(i.start)), for: elapsed(now - Date.parse(i.start)), cause: causeText(i.cause) });
  return `${text} · ${t('incident.cost', { failed: number(i.calls_failed), saved: number(i.calls_saved) })}`;
}

// objectivesOf returns the objectives of a pool.
function objectivesOf(sla, budget) {
  if (!sla) return [];
  const window = elapsed(sla.window_seconds * 1000);
  const objective = (key, title, { achieved, met, budget_left: left, burning, burn }) => ({
    key, achieved, met, left, burning,
    title: t('over-window', { objective: title, window }),
    burn: burn?.length ? burn[0].long_rate : null,
    at: budget?.at, over: budget?.[key],
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

// Pools shows all pools, the ill ones first.
export class Pools {
  constructor(node, history) {
    this.parts = new Keyed(node, ({ pool }) => new PoolSection(pool, history));
  }

  update(pools, now) {
    const several = pools.length > 1;
    const ranked = pools.map((pool) => ({ pool, verdict: verdict(pool, now), several, now }))
      .sort((a, b) => rank(a.pool, a.verdict.level) - rank(b.pool, b.verdict.level));
    this.parts.update(ranked, ({ pool }) => pool.name);
    return ranked;
  }

  remove() { for (const part of this.parts) part.remove(); }
}
