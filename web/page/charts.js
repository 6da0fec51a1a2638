// Charts of success ratio and latency over a span of time, and of error budgets.

import { h, setAttribute, setText, show } from './dom.js';
import { clock, elapsed, number, percent, seconds, t } from './words.js';

const minutes = 60;

// A Span is what the charts draw: a column for each step.
function emptySpan(name) {
  return { name, times: [], success: [], p50: [], p95: [], calls: 0, failures: 0, worst: null, slowest: null };
}

// add adds a step at a time in seconds. step is undefined if nothing was sent.
function add(span, at, step) {
  const success = step ? (step.calls - step.failures) / step.calls : null;
  span.times.push(at);
  span.success.push(success);
  span.p50.push(step?.p50 || null);
  span.p95.push(step?.p95 || null);
  if (!step) return;
  span.calls += step.calls;
  span.failures += step.failures;
  if (!span.worst || success < span.worst.value) span.worst = { value: success, at };
  if (step.p95 && (!span.slowest || step.p95 > span.slowest.value)) span.slowest = { value: step.p95, at };
}

// History keeps the minutes of all endpoints from the stream.
export class History {
  endpoints = new Map();

  merge({ from, pools }) {
    for (const [pool, endpoints] of Object.entries(pools)) {
      for (const [endpoint, { calls, failures, p50, p95 }] of Object.entries(endpoints)) {
        const key = History.key(pool, endpoint);
        if (!this.endpoints.has(key)) this.endpoints.set(key, new Map());
        const known = this.endpoints.get(key);
        for (let i = 0; i < calls.length; i++) {
          if (calls[i] > 0) known.set(from + i, { calls: calls[i], failures: failures[i], p50: p50[i], p95: p95[i] });
        }
        for (const minute of known.keys()) if (minute < from + calls.length - 2 * minutes) known.delete(minute);
      }
    }
  }

  // of returns an endpoint's last hour, which ends at the given time in ms.
  of(pool, endpoint, now) {
    const known = this.endpoints.get(History.key(pool, endpoint));
    const last = Math.floor(now / 60000);
    const hour = emptySpan('1h');
    for (let minute = last - minutes + 1; minute <= last; minute++) add(hour, minute * 60, known?.get(minute));
    return hour;
  }

  static key(pool, endpoint) { return `${pool}\n${endpoint}`; }
}

const lengths = { '1h': 3600, '24h': 86400, '30d': 30 * 86400 };

// spanNames are the spans of an endpoint's view.
export const spanNames = Object.keys(lengths);

// spanOf returns a span of a detail. Steps without requests are there, too.
export function spanOf(name, { from, step, calls, failures, p50, p95 } = { from: 0, step: 60 }) {
  const span = emptySpan(name);
  const n = Math.round(lengths[name] / step) + 1;
  for (let i = 0; i < n; i++) {
    add(span, from + i * step, calls?.[i] ? { calls: calls[i], failures: failures[i], p50: p50[i], p95: p95[i] } : undefined);
  }
  return span;
}

// when writes the time of a step: of the day, or with the date in a month.
const when = (at) => clock(new Date(at * 1000), false);

// A canvas needs resolved colours, so read them from an element.
const probe = h('span', { hidden: true });
let colours = {};
const colour = (name) => () => {
  if (!colours[name]) {
    if (!probe.isConnected) document.documentElement.append(probe);
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  return colours[name];
};

// recolour applies the colours of the current theme to all charts.
export function recolour() {
  colours = {};
  for (const chart of every) chart.plot?.redraw();
}

// All charts of a kind mark the time under the pointer.
const cursor = (key) => ({ sync: { key }, drag: { x: false, y: false, setScale: false }, y: false, points: { size: 5 } });
const sides = { padding: [3, 0, 1, 0], legend: { show: false }, axes: [{ show: false }, { show: false }] };

const lonely = (u, s) => {
  const data = u.data[s];
  return data.flatMap((value, i) => (value !== null && (data[i - 1] ?? null) === null && (data[i + 1] ?? null) === null ? [i] : []));
};
const line = (stroke, width = 1.25) => ({
  stroke: colour(stroke), width, spanGaps: false,
  points: { show: true, size: 3, fill: colour(stroke), width: 0, filter: (u, s, showing) => (showing ? lonely(u, s) : []) },
});

const every = new Set();
const visible = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) target.chart.appear();
}, { rootMargin: '200px' });
const sized = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) target.chart.resize(contentRect.width);
});

// Chart is drawn when it first scrolls into view.
class Chart {
  constructor(title, read, large) {
    this.read = read; // returns the heading for a step, or for the whole span if i is null
    this.height = large ? 130 : 46;
    this.key = large ? 'view' : 'hour';
    this.value = h('span', { class: 'value' });
    this.top = h('span', { class: 'top' });
    this.bottom = h('span', { class: 'bottom' });
    this.canvas = h('div', { class: 'canvas', role: 'img' }, this.top, this.bottom);
    this.canvas.chart = this;
    this.node = h('figure', { class: large ? 'chart large' : 'chart' },
      h('figcaption', null, h('span', { class: 'label' }, title), this.value), this.canvas);
    every.add(this);
  }

  update(span) {
    this.span = span;
    this.data = this.dataOf(span);
    const bounds = this.bounds(span);
    this.range = bounds.range;
    setText(this.top, bounds.top);
    setText(this.bottom, bounds.bottom);
    setAttribute(this.canvas, 'aria-label', this.describe(span));
    this.say(this.plot?.cursor.idx ?? null);
    this.plot?.setData(this.data);
    if (!this.watched) {
      this.watched = true;
      visible.observe(this.canvas);
    }
  }

  say(i) { setText(this.value, this.read(this.span, i)); }

  appear() {
    visible.unobserve(this.canvas);
    const options = {
      ...sides, width: this.canvas.clientWidth, height: this.height, cursor: cursor(this.key),
      scales: { x: { time: false, range: () => [this.span.times[0], this.span.times.at(-1)] }, y: { range: () => this.range } },
      hooks: { setCursor: [(u) => this.say(u.cursor.idx ?? null)] },
      ...this.series(),
    };
    this.plot = new uPlot(options, this.data, this.canvas);
    sized.observe(this.canvas);
  }

  resize(width) {
    if (this.plot && width > 0 && Math.abs(width - this.plot.width) >= 1) this.plot.setSize({ width, height: this.height });
  }

  remove() {
    every.delete(this);
    visible.unobserve(this.canvas);
    sized.unobserve(this.canvas);
    this.plot?.destroy();
  }
}

// SuccessChart hangs from the top: it fills the part missing from 100 %.
class SuccessChart extends Chart {
  constructor(large) {
    super(t('success'), (span, i) => {
      if (i !== null) return span.success[i] === null ? `${when(span.times[i])} · ${t('no-calls')}` : `${when(span.times[i])} · ${percent(span.success[i])}`;
      return span.calls ? percent((span.calls - span.failures) / span.calls) : t('no-calls');
    }, large);
  }

  dataOf(span) { return [span.times, span.success]; }

  // bounds end at a round number below the worst step.
  bounds({ worst }) {
    const bottom = [0.99, 0.9, 0.5, 0].find((b) => !worst || worst.value >= b + (1 - b) * 0.1) ?? 0;
    return { range: [bottom, 1], top: '100%', bottom: `${bottom * 100}%` };
  }

  series() {
    return {
      series: [{}, {
        ...line('accent'), fill: colour('loss'), fillTo: () => 1,
        paths: uPlot.paths.stepped({ align: 1 }),
      }],
    };
  }

  describe(span) {
    const over = t(`span.${span.name}`);
    if (!span.calls) return t('chart.success.none', { span: over });
    return t('chart.success', {
      span: over, all: percent((span.calls - span.failures) / span.calls), worst: percent(span.worst.value), at: when(span.worst.at),
    });
  }
}

// quantiles formats two latencies, with one unit if both have the same.
function quantiles(p50, p95) {
  const [median, high] = [seconds(p50), seconds(p95)];
  const [, number, unit] = median.match(/^(.*) (.*)$/);
  return `p50 ${high.endsWith(` ${unit}`) ? number : median} · p95 ${high}`;
}

// LatencyChart shows the median and a band from there to the 95th percentile.
class LatencyChart extends Chart {
  constructor(large) {
    super(t('latency'), (span, i) => {
      const at = i ?? span.p50.findLastIndex((value) => value !== null);
      const time = i === null ? '' : `${when(span.times[i])} · `;
      if (at < 0 || span.p50[at] === null) return i === null ? t('no-calls') : time + t('no-calls');
      return time + quantiles(span.p50[at], span.p95[at]);
    }, large);
  }

  dataOf(span) { return [span.times, span.p50, span.p95]; }

  bounds({ slowest }) {
    const most = slowest?.value ?? 0.1;
    const unit = 10 ** Math.floor(Math.log10(most));
    const top = ([1, 1.5, 2, 3, 5, 7.5, 10].find((step) => step * unit >= most * 1.05) ?? 10) * unit;
    return { range: [0, top], top: slowest ? seconds(top) : '', bottom: slowest ? '0' : '' };
  }

  series() {
    return {
      series: [{}, line('accent', 1.5), line('accent-2', 1)],
      bands: [{ series: [2, 1], fill: colour('band') }],
    };
  }

  describe(span) {
    const over = t(`span.${span.name}`);
    const at = span.p50.findLastIndex((value) => value !== null);
    if (at < 0) return t('chart.latency.none', { span: over });
    return t('chart.latency', {
      span: over, p50: seconds(span.p50[at]), p95: seconds(span.p95[at]), worst: seconds(span.slowest.value), at: when(span.slowest.at),
    });
  }
}

// Charts are the charts of success and latency of a span.
export class Charts {
  constructor(large = false) {
    this.success = new SuccessChart(large);
    this.latency = new LatencyChart(large);
    this.begin = h('span');
    this.node = h('div', { class: 'charts' }, this.success.node, this.latency.node,
      h('p', { class: 'hours', 'aria-hidden': 'true' }, this.begin, h('span', null, t('now'))));
  }

  update(span) {
    setText(this.begin, t('ago', { span: t(`span.short.${span.name}`) }));
    this.success.update(span);
    this.latency.update(span);
  }

  remove() {
    this.success.remove();
    this.latency.remove();
  }
}

// BudgetLine draws how much of an error budget was left over the objective's window. Above the
// line at the bottom there is something left.
export class BudgetLine {
  constructor() {
    this.area = h('path', { class: 'area' });
    this.line = h('path', { class: 'line' });
    this.node = h('svg', { class: 'budget', viewBox: '0 0 200 28', preserveAspectRatio: 'none', role: 'img' }, this.area, this.line);
    show(this.node, false);
  }

  // update draws times in seconds and the parts that were left.
  update(at, left) {
    const drawn = at?.length > 1 && left?.length === at.length;
    show(this.node, drawn);
    if (!drawn) return;
    const [first, last] = [at[0], at.at(-1)];
    const low = Math.min(0, ...left);
    const x = (i) => ((at[i] - first) / (last - first) * 200).toFixed(1);
    const y = (value) => (1 + 26 * (1 - (value - low) / (1 - low))).toFixed(1);
    const path = left.map((value, i) => `${i ? 'L' : 'M'}${x(i)} ${y(value)}`).join('');
    setAttribute(this.line, 'd', path);
    setAttribute(this.area, 'd', `${path}L200 ${y(low)}L0 ${y(low)}Z`);
    const steepest = left.reduce((best, value, i) => (i && left[i - 1] - value > best.fall ? { fall: left[i - 1] - value, at: at[i] } : best), { fall: 0, at: last });
    setAttribute(this.node, 'aria-label', t(steepest.fall > 0 ? 'chart.budget' : 'chart.budget.whole', {
      window: elapsed((last - first) * 1000), left: percent(Math.max(0, left.at(-1))), fall: number(Math.round(steepest.fall * 1000) / 10), at: when(steepest.at),
    }));
  }
}
