// The view of one endpoint: what failed, how it did over an hour, a day and a month, its
// scopes, limits and operator actions.

import { ActionsButton } from './actions.js';
import { Charts, spanNames, spanOf } from './charts.js';
import { detail, Poll } from './data.js';
import { h, Keyed, setAttribute, setText, show } from './dom.js';
import { breakerOf, Fact, LastAttempts, Lever, limitLines, Notes, orders, Rate, scoreOf, standing, updateFacts } from './endpoint.js';
import { row } from './events.js';
import { follow, get, go, href } from './route.js';
import { cause, clock, number, percent, reason, seconds, share, t } from './words.js';

// Table shows items, a line each.
class Table {
  constructor(title, columns, cellsOf) {
    this.body = h('tbody');
    this.none = h('p', { class: 'hint' });
    this.rows = new Keyed(this.body, () => {
      const cells = columns.map(() => h('td'));
      return { node: h('tr', null, ...cells), update: ({ item, now }) => cellsOf(item, now).forEach((text, i) => setText(cells[i], text)) };
    });
    this.scroll = h('div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': title },
      h('table', null, h('thead', null, h('tr', null, ...columns.map((column) => h('th', { scope: 'col' }, t(`column.${column}`))))), this.body));
    this.node = h('section', { class: 'panel' }, h('h3', null, title), this.scroll, this.none);
  }

  update(items, now, none = '') {
    this.rows.update(items.map((item, i) => ({ item, i, now })), ({ i }) => i);
    show(this.scroll, items.length > 0);
    show(this.none, !items.length && none !== '');
    setText(this.none, none);
  }
}

// Lines shows lines of text under a title.
class Lines {
  constructor(title) {
    this.text = h('p', { class: 'operator' });
    this.node = h('section', { class: 'panel' }, h('h3', null, title), this.text);
  }

  update(text, none = '') {
    show(this.node, text !== '' || none !== '');
    setText(this.text, text || none);
  }
}

export class EndpointView {
  constructor(pool, name, log) {
    this.pool = pool;
    this.name = name;
    this.log = log;
    this.rates = new Rate();
    this.lever = new Lever();
    this.word = h('p', { class: 'state' });
    this.actions = new ActionsButton(pool);
    this.url = h('p', { class: 'url' });
    this.notes = new Notes(true);
    this.gone = h('p', { class: 'gone' }, t('endpoint.gone'));
    this.facts = Object.fromEntries(['breaker', 'tier', 'weight', 'in-flight', 'score', 'attempts', 'failures', 'cancelled', 'check'].map((name) => [name, new Fact(name === 'tier' ? 'column.tier' : name)]));
    this.live = Object.fromEntries(['traffic', 'share', 'rate', 'p50', 'p95', 'p99'].map((name) => [name, new Fact(name)]));
    this.attempts = new LastAttempts();
    this.spans = h('div', { class: 'choices', role: 'group', 'aria-label': t('span') }, ...spanNames.map((span) => h('button', {
      type: 'button', 'data-span': span, onclick: () => go({ span: span === '1h' ? '' : span }, true),
    }, t(`span.short.${span}`))));
    this.sum = h('p', { class: 'hint' });
    this.charts = new Charts(true);
    this.failures = new Table(t('failures.recent'), ['time', 'failure', 'request', 'outcome'], (f) => [
      clock(new Date(f.at)), cause({ what: f.what, count: f.count }),
      [f.method && `${f.method} ${f.path}`, f.scope].filter(Boolean).join(' · ') || '–', f.outcome ? reason(f.outcome) : '–']);
    this.scopes = new Table(t('scopes'), ['scope', 'state', 'note', 'attempts', 'score', 'p95'], (scope, now) => {
      const s = standing(scope, now);
      return [scope.scope, `${t(`state.${s.state}`)} (${breakerOf(scope)})`, s.notes.filter(Boolean).join(' · ') || '–', number(scope.attempts), scoreOf(scope), scope.latency ? seconds(scope.latency.p95) : '–'];
    });
    this.limits = new Lines(t('limits'));
    this.orders = new Lines(t('orders'));
    this.list = h('ol', { class: 'events inner' });
    this.events = new Keyed(this.list, (event) => ({ node: row(event, false), update() {} }));
    this.noEvents = h('p', { class: 'hint' }, t('events.none-of'));
    const back = { pool: '', endpoint: '', span: '' };
    this.title = h('h2', { id: 'endpoint-title', tabindex: '-1' }, name);
    this.body = h('div', null,
      this.notes.node,
      h('dl', { class: 'facts' }, ...[...Object.values(this.live), ...Object.values(this.facts)].map((fact) => fact.node)),
      h('div', { class: 'last' }, h('span', { class: 'label', 'aria-hidden': 'true' }, t('last-attempts')), this.attempts.node),
      h('section', { class: 'panel' }, h('div', { class: 'panel-head' }, h('h3', null, t('over-time')), this.spans, this.sum), this.charts.node),
      this.failures.node, this.scopes.node, this.limits.node, this.orders.node,
      h('section', { class: 'panel' }, h('h3', null, t('events')), this.list, this.noEvents));
    this.node = h('section', { class: 'endpoint-view', 'aria-labelledby': 'endpoint-title' },
      h('p', null, h('a', { class: 'back', href: href(back), onclick: (event) => follow(event, back) }, t('back'))),
      h('header', { class: 'title' }, this.lever.node, this.title, this.word, h('p', { class: 'hint' }, t('in-pool', { pool })), this.actions.node),
      this.url, this.gone, this.body);
    this.charts.update(spanOf(this.span()));
    this.poll = new Poll(() => detail(pool, name), (found) => {
      this.detail = found;
      this.problem = '';
      this.draw();
    }, 10000, (error) => {
      this.problem = error.message;
      this.draw();
    });
  }

  span() { return spanNames.includes(get('span')) ? get('span') : '1h'; }

  // draw shows the detail.
  draw() {
    for (const button of this.spans.children) setAttribute(button, 'aria-pressed', String(button.dataset.span === this.span()));
    const span = spanOf(this.span(), this.detail?.spans[this.span()]);
    this.charts.update(span);
    const missing = this.problem ? t('detail.failed', { problem: this.problem }) : t('detail.waiting');
    setText(this.sum, span.calls ? t('span.sum', {
      n: number(span.calls), failed: number(span.failures), success: percent((span.calls - span.failures) / span.calls),
    }) : this.detail ? t('no-calls') : missing);
    this.failures.update(this.detail?.failures ?? [], 0, this.detail ? t('failures.none') : missing);
  }

  update(pools, now) {
    const e = pools.find(({ name }) => name === this.pool)?.endpoints.find(({ name }) => name === this.name);
    show(this.gone, !e);
    show(this.body, Boolean(e));
    if (this.shown !== get('span')) {
      this.shown = get('span');
      this.draw();
    }
    if (!e) return;
    const s = standing(e, now);
    setAttribute(this.node, 'data-level', s.level);
    setAttribute(this.node, 'data-state', s.state);
    this.lever.update(s, e.share);
    setText(this.word, t(`state.${s.state}`));
    this.actions.update(e);
    setText(this.url, e.url ? `${e.url} · ${e.address}` : e.address);
    this.notes.update(e, s, now);
    updateFacts(this.facts, e);
    this.live.traffic.update(share(e.traffic));
    this.live.share.update(share(e.share));
    const rate = this.rates.of(e.attempts, now);
    this.live.rate.update(rate || '–');
    for (const q of ['p50', 'p95', 'p99']) this.live[q].update(e.latency ? seconds(e.latency[q]) : '–');
    this.attempts.update(e.last_outcomes ?? []);
    show(this.scopes.node, Boolean(e.scopes?.length));
    this.scopes.update(e.scopes ?? [], now);
    this.limits.update(limitLines(e, now).join('\n'));
    this.orders.update(orders(e, now), t('orders.none'));
    const events = this.log.events.filter((event) => event.pool === this.pool && (event.endpoint === this.name || event.to === this.name)).slice(-50).sort((a, b) => Date.parse(b.at) - Date.parse(a.at) || b.id - a.id);
    this.events.update(events, (event) => event.id);
    show(this.list, events.length > 0);
    show(this.noEvents, !events.length);
  }

  // focus moves the focus to the title, as a new page would.
  focus() { this.title.focus(); }

  remove() {
    this.poll.stop();
    this.charts.remove();
    this.node.remove();
  }
}
