// The endpoints of a pool as a dense table, a line each.

import { ActionsButton } from './actions.js';
import { h, Keyed, setAttribute, setText, show } from './dom.js';
import { endpointLink, fleetLines, illScopes, Lever, limitLines, orders, Rate, scoreOf, sentenceCase, standing } from './endpoint.js';
import { offers } from './data.js';
import { number, percent, seconds, share, t } from './words.js';

const columns = ['endpoint', 'state', 'tier', 'traffic', 'rate', 'success', 'p50', 'p95', 'in-flight', 'score', 'note'];
const numbers = new Set(['tier', 'traffic', 'rate', 'success', 'p50', 'p95', 'in-flight', 'score']);

class Row {
  constructor(pool, { name }, history) {
    this.pool = pool;
    this.history = history;
    this.rates = new Rate();
    this.lever = new Lever();
    this.word = h('span');
    this.actions = new ActionsButton(pool);
    this.cells = Object.fromEntries(columns.slice(2).map((column) => [column, h('td', { class: numbers.has(column) ? 'n' : 'note' })]));
    this.act = h('td', { class: 'acts' }, this.actions.node);
    this.node = h('tr', null, h('th', { scope: 'row' }, endpointLink(pool, name)),
      h('td', { class: 'state' }, h('span', null, this.lever.node, this.word)), ...Object.values(this.cells), this.act);
  }

  update({ endpoint: e, now }) {
    const s = standing(e, now);
    setAttribute(this.node, 'data-level', s.level);
    setAttribute(this.node, 'data-state', s.state);
    this.lever.update(s, e.share);
    setText(this.word, t(`state.${s.state}`));
    const set = (column, text) => setText(this.cells[column], text);
    set('tier', String(e.priority));
    set('traffic', share(e.traffic));
    set('rate', this.rates.of(e.attempts, now));
    set('p50', e.latency ? seconds(e.latency.p50) : '–');
    set('p95', e.latency ? seconds(e.latency.p95) : '–');
    set('in-flight', number(e.in_flight));
    set('score', scoreOf(e));
    const note = sentenceCase([...s.notes, ...illScopes(e, now).split('\n'), ...orders(e, now, [...fleetLines(e), ...limitLines(e, now)]).split('\n')].filter(Boolean).join(' · '));
    set('note', note);
    setAttribute(this.cells.note, 'title', note || null);
    if (this.history.version !== this.drawn) {
      this.drawn = this.history.version;
      const hour = this.history.of(this.pool, e.name, now);
      set('success', hour.calls ? percent((hour.calls - hour.failures) / hour.calls) : '–');
    }
    this.actions.update(e);
    show(this.act, offers.levers);
  }
}

export class EndpointTable {
  constructor(pool, history) {
    const body = h('tbody');
    this.rows = new Keyed(body, ({ endpoint }) => new Row(pool, endpoint, history));
    this.act = h('th', { scope: 'col' }, t('actions'));
    this.node = h('div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': t('table.of', { pool }) },
      h('table', { class: 'dense' },
        h('thead', null, h('tr', null, ...columns.map((column) => h('th', { scope: 'col', class: numbers.has(column) ? 'n' : null, title: column === 'success' ? t('success.hint') : null }, t(`column.${column}`))), this.act)),
        body));
  }

  update(pool, now) {
    show(this.act, offers.levers);
    this.rows.update(pool.endpoints.map((endpoint) => ({ endpoint, now })), ({ endpoint }) => endpoint.name);
  }

  remove() { this.node.remove(); }
}
