// Charts of an endpoint's last hour, minute by minute: success ratio and latency.

import { h, setAttribute, setText } from './dom.js';
import { clock, percent, seconds, t } from './words.js';

const minutes = 60;
const height = 46;

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
    const hour = { times: [], success: [], p50: [], p95: [], calls: 0, failures: 0, worst: null, slowest: null };
    for (let minute = last - minutes + 1; minute <= last; minute++) {
      const m = known?.get(minute);
      hour.times.push(minute * 60);
      hour.success.push(m ? (m.calls - m.failures) / m.calls : null);
      hour.p50.push(m?.p50 || null);
      hour.p95.push(m?.p95 || null);
      if (!m) continue;
      hour.calls += m.calls;
      hour.failures += m.failures;
      const at = minute * 60;
      const success = (m.calls - m.failures) / m.calls;
      if (!hour.worst || success < hour.worst.value) hour.worst = { value: success, at };
      if (m.p95 && (!hour.slowest || m.p95 > hour.slowest.value)) hour.slowest = { value: m.p95, at };
    }
    return hour;
  }

  static key(pool, endpoint) { return `${pool}\n${endpoint}`; }
}

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
  for (const chart of all) chart.plot?.redraw();
}

// All charts mark the time under the pointer.
const cursor = { sync: { key: 'hour' }, drag: { x: false, y: false, setScale: false }, y: false, points: { size: 5 } };
const sides = { padding: [3, 0, 1, 0], legend: { show: false }, axes: [{ show: false }, { show: false }] };

const lonely = (u, s) => {
  const data = u.data[s];
  return data.flatMap((value, i) => (value !== null && (data[i - 1] ?? null) === null && (data[i + 1] ?? null) === null ? [i] : []));
};
const line = (stroke, width = 1.25) => ({
  stroke: colour(stroke), width, spanGaps: false,
  points: { show: true, size: 3, fill: colour(stroke), width: 0, filter: (u, s, showing) => (showing ? lonely(u, s) : []) },
});

const all = new Set();
const visible = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting) target.chart.appear();
}, { rootMargin: '200px' });
const sized = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) target.chart.resize(contentRect.width);
});

// Chart is drawn when it first scrolls into view.
class Chart {
  constructor(title, read) {
    this.read = read; // returns the heading for minute i, or for the hour if i is null
    this.value = h('span', { class: 'value' });
    this.top = h('span', { class: 'top' });
    this.bottom = h('span', { class: 'bottom' });
    this.canvas = h('div', { class: 'canvas', role: 'img' }, this.top, this.bottom);
    this.canvas.chart = this;
    this.node = h('figure', { class: 'chart' },
      h('figcaption', null, h('span', { class: 'label' }, title), this.value), this.canvas);
    all.add(this);
    visible.observe(this.canvas);
  }

  update(hour) {
    this.hour = hour;
    this.data = this.dataOf(hour);
    const bounds = this.bounds(hour);
    this.range = bounds.range;
    setText(this.top, bounds.top);
    setText(this.bottom, bounds.bottom);
    setAttribute(this.canvas, 'aria-label', this.describe(hour));
    this.say(this.plot?.cursor.idx ?? null);
    this.plot?.setData(this.data);
  }

  say(i) { setText(this.value, this.read(this.hour, i)); }

  appear() {
    visible.unobserve(this.canvas);
    const options = {
      ...sides, width: this.canvas.clientWidth, height, cursor,
      scales: { x: { time: false, range: () => [this.hour.times[0], this.hour.times.at(-1)] }, y: { range: () => this.range } },
      hooks: { setCursor: [(u) => this.say(u.cursor.idx ?? null)] },
      ...this.series(),
    };
    this.plot = new uPlot(options, this.data, this.canvas);
    sized.observe(this.canvas);
  }

  resize(width) {
    if (this.plot && width > 0 && Math.abs(width - this.plot.width) >= 1) this.plot.setSize({ width, height });
  }

  remove() {
    all.delete(this);
    visible.unobserve(this.canvas);
    sized.unobserve(this.canvas);
    this.plot?.destroy();
  }
}

// SuccessChart hangs from the top: it fills the part missing from 100 %.
class SuccessChart extends Chart {
  constructor() {
    super(t('success'), (hour, i) => {
      if (i !== null) return hour.success[i] === null ? `${clock(new Date(hour.times[i] * 1000), false)} · ${t('no-calls')}`
        : `${clock(new Date(hour.times[i] * 1000), false)} · ${percent(hour.success[i])}`;
      return hour.calls ? percent((hour.calls - hour.failures) / hour.calls) : t('no-calls');
    });
  }

  dataOf(hour) { return [hour.times, hour.success]; }

  // bounds end at a round number below the worst minute.
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

  describe(hour) {
    if (!hour.calls) return t('chart.success.none');
    return t('chart.success', {
      all: percent((hour.calls - hour.failures) / hour.calls),
      worst: percent(hour.worst.value), at: clock(new Date(hour.worst.at * 1000), false),
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
  constructor() {
    super(t('latency'), (hour, i) => {
      const at = i ?? hour.p50.findLastIndex((value) => value !== null);
      const time = i === null ? '' : `${clock(new Date(hour.times[i] * 1000), false)} · `;
      if (at < 0 || hour.p50[at] === null) return i === null ? t('no-calls') : time + t('no-calls');
      return time + quantiles(hour.p50[at], hour.p95[at]);
    });
  }

  dataOf(hour) { return [hour.times, hour.p50, hour.p95]; }

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

  describe(hour) {
    const at = hour.p50.findLastIndex((value) => value !== null);
    if (at < 0) return t('chart.latency.none');
    return t('chart.latency', {
      p50: seconds(hour.p50[at]), p95: seconds(hour.p95[at]),
      worst: seconds(hour.slowest.value), at: clock(new Date(hour.slowest.at * 1000), false),
    });
  }
}

// Charts are the two charts of an endpoint.
export class Charts {
  constructor() {
    this.success = new SuccessChart();
    this.latency = new LatencyChart();
    this.node = h('div', { class: 'charts' }, this.success.node, this.latency.node,
      h('p', { class: 'hours', 'aria-hidden': 'true' }, h('span', null, t('hour-ago')), h('span', null, t('now'))));
  }

  update(hour) {
    this.success.update(hour);
    this.latency.update(hour);
  }

  remove() {
    this.success.remove();
    this.latency.remove();
  }
}
