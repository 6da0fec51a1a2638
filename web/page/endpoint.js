// How an endpoint is doing, in words, and the card that shows it.

import { ActionsButton } from './actions.js';
import { Charts } from './charts.js';
import { h, setAttribute, setPart, setStyle, setText, show } from './dom.js';
import { follow, href } from './route.js';
import { cause, clock, countdown, elapsed, known, list, number, quota, reason, remedyOf, share, t } from './words.js';

// standing describes an endpoint: its state, its level (good, warn or bad), notes, and the
// progress of what it waits for.
export function standing(e, now) {
  const since = e.down_since && e.cause
    ? t('down-since', { at: clock(new Date(e.down_since)), for: elapsed(now - Date.parse(e.down_since)), cause: cause(e.cause) }) : '';
  const heldFor = e.held_until ? Date.parse(e.held_until) - now : 0;
  const why = e.reason ? reason(e.reason) : '';
  const until = (from, to) => {
    const [began, ends] = [Date.parse(from), Date.parse(to)];
    return ends > began ? Math.min(1, Math.max(0, (now - began) / (ends - began))) : 1;
  };
  switch (true) {
    case e.draining:
      return { state: 'draining', level: 'warn', notes: [t('note.draining', { n: e.in_flight })] };
    case e.state === 'forced_open':
      return { state: e.state, level: 'bad', notes: e.operator?.until ? [] : [t('note.forced')] };
    case e.state === 'open': {
      const left = e.until ? Date.parse(e.until) - now : 0;
      return {
        state: e.state, level: 'bad', progress: e.until ? until(e.since, e.until) : null,
        notes: [since || why, left > 0 ? t('note.open', { in: countdown(left) }) : t('note.due')],
      };
    }
    case e.state === 'recovering':
      return {
        state: e.state, level: 'warn', progress: e.share,
        notes: [e.share > 0 ? t('note.recovering', { share: share(e.share) }) : t('note.trial'), since || why],
      };
    case e.held_reason === 'next_on':
      return { state: 'held', level: 'warn', notes: [heldFor > 0 ? t('note.passed', { in: countdown(heldFor) }) : t('note.passed.due')] };
    case heldFor > 0 && e.held_reason === 'quota':
      return { state: 'held', level: 'warn', notes: [t('note.quota', { in: countdown(heldFor) })] };
    case heldFor > 0 && e.held_reason === 'denied':
      return { state: 'held', level: 'warn', notes: [t('note.refused', { in: countdown(heldFor) })] };
    case heldFor > 0:
      return { state: 'held', level: 'warn', notes: [t('note.held', { in: countdown(heldFor) })] };
    case e.state === 'forced_closed':
      return { state: e.state, level: 'warn', notes: e.operator?.until ? [] : [t('note.forced')] };
    case e.weight === 0:
      return { state: 'idle', level: 'good', notes: [] };
    default:
      return {
        state: 'closed', level: (e.scopes ?? []).some((scope) => standing(scope, now).level !== 'good') ? 'warn' : 'good',
        notes: e.score < 0.75 ? [t('note.score', { score: e.score.toFixed(2) })] : [],
      };
  }
}

// scoreOf returns the score as text. An endpoint that gets no requests has none that counts.
export const scoreOf = (e) => (e.share === 0 || e.state === 'forced_open' || e.draining ? '–' : e.score.toFixed(2));

// breakerOf returns the state of the breaker.
export const breakerOf = (e) => (known(`breaker.${e.state}`) ? t(`breaker.${e.state}`) : e.state);

// illScopes returns what is wrong with scopes of an endpoint, '' if nothing is.
export function illScopes(e, now) {
  return (e.scopes ?? []).map((scope) => [scope, standing(scope, now)]).filter(([, s]) => s.level !== 'good')
    .map(([scope, s]) => t('scope.ill', { scope: scope.scope, state: t(`state.${s.state}`), notes: s.notes.filter(Boolean).map((note) => ` · ${note}`).join('') })).join('\n');
}

// remedies say what usually helps an endpoint, or its scopes, a line each.
function remedies(e) {
  const out = (one) => one.state === 'open' || one.state === 'recovering';
  const of = out(e) ? [e] : e.state === 'closed' ? (e.scopes ?? []).filter((scope) => out(scope) && scope.share === 0) : [];
  return [...new Set(of.map((one) => remedyOf(one.reason, one.cause)).filter(Boolean))].join('\n');
}

// Rate counts attempts per second over the last 5 seconds.
export class Rate {
  seen = [];

  // of returns the rate as text, '' while it is unknown.
  of(attempts, now) {
    if (this.seen.length && (attempts < this.seen.at(-1).attempts || now <= this.seen.at(-1).now)) this.seen = [];
    this.seen.push({ attempts, now });
    while (this.seen.length > 2 && now - this.seen[0].now > 5500) this.seen.shift();
    const first = this.seen[0];
    if (now === first.now) return '';
    return t('per-second', { n: number((attempts - first.attempts) / (now - first.now) * 1000) });
  }
}

// EndpointLink leads to the view of an endpoint.
export function endpointLink(pool, endpoint, id = null) {
  const to = { pool, endpoint };
  return h('a', { id, href: href(to), class: 'endpoint-link', onclick: (event) => follow(event, to) }, endpoint);
}

// Lever draws a breaker: it lies flat when closed, stands up when open, and comes down
// during recovery.
export class Lever {
  constructor() {
    this.arm = h('path', { class: 'arm', d: 'M7 12H23' });
    this.pin = h('rect', { class: 'pin', x: '4', y: '9', width: '6', height: '6' });
    this.node = h('svg', { class: 'lever', viewBox: '0 0 30 18', width: '30', height: '18', 'aria-hidden': 'true', focusable: 'false' },
      h('path', { class: 'wire', d: 'M0 12H7M23 12H30' }),
      h('circle', { class: 'terminal', cx: '7', cy: '12', r: '2' }),
      h('circle', { class: 'terminal', cx: '23', cy: '12', r: '2' }),
      this.pin, this.arm);
  }

  update({ state, level }, allowed) {
    const up = state.endsWith('open') ? 1 : state === 'recovering' ? 0.25 + 0.6 * (1 - allowed) : state === 'draining' || state === 'held' ? 0.4 : 0;
    setAttribute(this.node, 'data-level', level);
    setStyle(this.arm, 'transform', `rotate(${(-36 * up).toFixed(1)}deg)`);
    setAttribute(this.pin, 'visibility', state.startsWith('forced') ? 'visible' : 'hidden');
  }
}

// LastAttempts draws the last attempts: short strokes for successes, long ones for failures, dots
// for clients that left.
export class LastAttempts {
  constructor() {
    this.good = h('path', { class: 'good' });
    this.bad = h('path', { class: 'bad' });
    this.node = h('svg', { class: 'attempts', viewBox: '0 0 119 14', role: 'img', preserveAspectRatio: 'xMinYMid meet' }, this.good, this.bad);
  }

  update(outcomes) {
    let good = '', bad = '';
    const failed = new Map();
    const first = 20 - outcomes.length;
    outcomes.forEach((outcome, i) => {
      const x = (first + i) * 6 + 1.5;
      if (outcome === 'success') good += `M${x} 5V9`;
      else if (outcome === 'cancelled') good += `M${x} 6.5V7.5`;
      else {
        bad += `M${x} 0V14`;
        failed.set(outcome, (failed.get(outcome) ?? 0) + 1);
      }
    });
    setAttribute(this.good, 'd', good);
    setAttribute(this.bad, 'd', bad);
    const n = outcomes.length;
    setAttribute(this.node, 'aria-label', !n ? t('last-attempts.none')
      : failed.size ? t('last-attempts.some', { n, list: list([...failed].map(([what, times]) => `${reason(what)} ×${times}`)) })
        : t('last-attempts.all-good', { n }));
  }
}

// Fact is a label and a value.
export class Fact {
  constructor(label) {
    this.value = h('dd');
    this.node = h('div', null, h('dt', null, t(label)), this.value);
  }

  update(text) { setText(this.value, text); }
}

export const sentenceCase = (text) => text.charAt(0).toLocaleUpperCase() + text.slice(1);

let ids = 0;

// Notes say why an endpoint is not in service, what it waits for, and what an operator, a
// schedule, the fleet or a limit does to it.
export class Notes {
  // brief leaves out what the view of an endpoint shows elsewhere.
  constructor(brief = false) {
    this.brief = brief;
    this.note = h('p', { class: 'note' });
    this.operator = h('p', { class: 'operator' });
    this.progress = h('div', { class: 'progress', 'aria-hidden': 'true' }, h('div', { class: 'done' }));
    this.node = h('div', { class: 'notes' }, this.note, this.progress, this.operator);
  }

  update(e, s, now) {
    const notes = s.notes.filter(Boolean);
    const more = [illScopes(e, now), remedies(e), this.brief ? fleetLines(e).join('\n') : orders(e, now, [...fleetLines(e), ...limitLines(e, now)])].filter(Boolean).join('\n');
    show(this.node, notes.length > 0 || more !== '');
    show(this.note, notes.length > 0);
    setText(this.note, sentenceCase(notes.join(' · ')));
    const waits = s.progress !== null && s.progress !== undefined;
    show(this.progress, waits);
    if (waits) setStyle(this.progress.firstChild, 'transform', `scaleX(${s.progress.toFixed(3)})`);
    show(this.operator, more !== '');
    setText(this.operator, more);
  }
}

export class EndpointCard {
  constructor(pool, endpoint, history) {
    this.pool = pool;
    this.history = history;
    this.rates = new Rate();
    const id = `endpoint-${ids += 1}`;
    this.lever = new Lever();
    this.word = h('p', { class: 'state' });
    this.url = h('p', { class: 'url' });
    this.share = h('span', { class: 'share' });
    this.rate = h('span', { class: 'rate' });
    this.fill = h('div', { class: 'fill' });
    this.meter = h('div', { class: 'track', role: 'meter', 'aria-valuemin': '0', 'aria-valuemax': '100', 'aria-labelledby': `${id} ${id}-traffic` }, this.fill);
    this.notes = new Notes();
    this.charts = new Charts();
    this.attempts = new LastAttempts();
    this.actions = new ActionsButton(pool);
    this.facts = Object.fromEntries(['breaker', 'in-flight', 'weight', 'score', 'cancelled', 'check'].map((name) => [name, new Fact(name)]));
    this.article = h('article', { class: 'card', 'aria-labelledby': id },
      h('div', { class: 'now' },
        h('header', null, this.lever.node, h('h4', null, endpointLink(pool, endpoint.name, id)), this.word),
        this.url,
        h('div', { class: 'traffic' },
          h('span', { class: 'label', id: `${id}-traffic` }, t('traffic')), this.share, this.rate, this.meter),
        this.notes.node),
      this.charts.node,
      h('div', { class: 'foot' },
        h('div', { class: 'last' }, h('span', { class: 'label', 'aria-hidden': 'true' }, t('last-attempts')), this.attempts.node),
        h('dl', null, ...Object.values(this.facts).map((fact) => fact.node)), this.actions.node));
    this.node = h('li', null, this.article);
  }

  update({ endpoint: e, now }) {
    const s = standing(e, now);
    setAttribute(this.article, 'data-level', s.level);
    setAttribute(this.article, 'data-state', s.state);
    this.lever.update(s, e.share);
    setText(this.word, t(`state.${s.state}`));
    setText(this.url, e.url || e.address);
    setAttribute(this.url, 'title', e.url ? e.address : null);

    setText(this.share, share(e.traffic));
    setText(this.rate, this.rates.of(e.attempts, now));
    setPart(this.fill, e.traffic);
    setAttribute(this.meter, 'aria-valuenow', String(Math.round(e.traffic * 100)));
    setAttribute(this.meter, 'aria-valuetext', share(e.traffic));
    this.notes.update(e, s, now);
    this.attempts.update(e.last_outcomes ?? []);
    updateFacts(this.facts, e);
    this.actions.update(e);
    if (this.history.version !== this.drawn || Math.floor(now / 60000) !== this.minute) {
      this.drawn = this.history.version;
      this.minute = Math.floor(now / 60000);
      this.charts.update(this.history.of(this.pool, e.name, now));
    }
  }

  remove() { this.charts.remove(); }
}

// updateFacts fills in those of an endpoint's facts that there are.
export function updateFacts(facts, e) {
  const set = (name, text, hint = null) => {
    if (!facts[name]) return;
    show(facts[name].node, text !== '');
    facts[name].update(text);
    setAttribute(facts[name].node, 'title', hint);
  };
  set('breaker', breakerOf(e));
  set('tier', String(e.priority));
  set('in-flight', number(e.in_flight));
  set('weight', String(e.weight));
  set('score', scoreOf(e), scoreOf(e) === '–' ? t('score.none') : null);
  set('attempts', number(e.attempts));
  set('failures', number(e.failures));
  set('cancelled', e.cancelled > 0 ? number(e.cancelled) : '', t('cancelled.hint'));
  set('check', !e.check ? '' : known(`check.${e.check.state}`) ? t(`check.${e.check.state}`) : e.check.state, e.check?.last_result || null);
}

// fleetLines says at how many instances an endpoint is out.
export const fleetLines = (e) => (e.fleet?.open ? [t(e.fleet.wary ? 'fleet.wary' : 'fleet.open', { open: e.fleet.open, instances: e.fleet.instances })] : []);

// limitLines says what is left of an endpoint's limits and quotas.
export function limitLines(e, now) {
  const lines = (e.limits ?? []).map((l) => t(known(`limit.${l.of}`) ? `limit.${l.of}` : 'limit.other', {
    left: number(l.left), amount: number(l.amount), of: l.of, per: elapsed(l.per_seconds * 1000),
  }));
  for (const q of e.quotas ?? []) lines.push(quota(q, now));
  return lines;
}

// orders describes an endpoint's schedule and an operator's actions with their reasons, after
// other lines.
export function orders(e, now, lines = []) {
  const say = (what, { reason: why, until }) => {
    const left = until ? Date.parse(until) - now : 0;
    lines.push([what, why && `“${why}”`, left > 0 && t('note.until', { at: clock(new Date(until), false), in: countdown(left) })].filter(Boolean).join(' · '));
  };
  if (e.operator) say(known(`operator.${e.operator.action}`) ? t(`operator.${e.operator.action}`) : e.operator.action, e.operator);
  const planned = e.schedule;
  if (planned?.drain) say(t('schedule.drain'), planned);
  if (planned?.weight !== undefined) say(t('schedule.weight', { to: planned.weight }), planned);
  if (planned?.priority !== undefined) say(t('schedule.priority', { to: planned.priority }), planned);
  const o = e.override;
  if (o?.weight) say(t('operator.weight', { to: o.weight.value, from: o.weight.configured }), o.weight);
  if (o?.priority) say(t('operator.priority', { to: o.priority.value, from: o.priority.configured }), o.priority);
  return lines.join('\n');
}
