// The whole page.

import { History, recolour } from './charts.js';
import { offers } from './data.js';
import { h, Keyed, setAttribute, setText, show } from './dom.js';
import { EventList, Log, sentence } from './events.js';
import { Lever } from './endpoint.js';
import { burning, Pools, verdict } from './pool.js';
import { get, go, listen } from './route.js';
import { connect } from './stream.js';
import { EndpointView } from './view.js';
import { clock, count, elapsed, language, t, zone } from './words.js';

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
const root = document.documentElement;

const history = Object.assign(new History(), { version: 0 });
const log = new Log();
let snapshot = null;
let link = { state: 'connecting', silent: 0 };
let ready = false; // past events have arrived
let view = null;

function remember(name, value) {
  try { localStorage.setItem(`failover.${name}`, value); } catch { /* without storage, the choice is lost on reload */ }
}

// choices returns a group of buttons, one of them pressed.
function choices(label, current, options, choose) {
  return h('div', { class: 'choices', role: 'group', 'aria-label': label }, ...options.map(({ value, text, lang, hint }) => h('button', {
    type: 'button', 'data-value': value, 'aria-pressed': String(value === current), lang, title: hint, 'aria-label': typeof text === 'string' ? null : hint, onclick: () => choose(value),
  }, text)));
}

// View is replaced when the language changes.
class View {
  constructor() {
    this.overall = h('p', { class: 'overall' });
    this.link = h('p', { class: 'link' });
    this.link.append(h('span', { class: 'dot', 'aria-hidden': 'true' }), this.linkText = h('span'));
    this.clock = h('time', { class: 'clock' });
    this.stale = h('p', { class: 'stale', 'aria-hidden': 'true' });
    this.says = h('p', { class: 'visually-hidden', role: 'status' });
    this.nav = h('ul');
    this.navNode = h('nav', { 'aria-label': t('pools'), class: 'index' }, this.nav);
    this.navItems = new Keyed(this.nav, ({ pool }) => navItem(pool));
    this.poolsNode = h('div', { class: 'pools' });
    this.pools = new Pools(this.poolsNode, history);
    this.empty = h('div', { class: 'empty' }, h('p', null), h('p', { class: 'hint' }));
    this.events = new EventList(log);
    this.node = h('div', { class: 'page' },
      h('a', { class: 'skip', href: '#main' }, t('skip')),
      h('header', { class: 'masthead' },
        h('h1', null, new Mark().node, t('title')),
        this.overall,
        h('div', { class: 'controls' },
          h('div', { class: 'liveness' }, this.link, this.clock),
          this.style = choices(t('view'), chosenView(), [{ value: 'cards', text: t('view.cards'), hint: t('view.cards.hint') }, { value: 'table', text: t('view.table'), hint: t('view.table.hint') }], (value) => go({ view: value === 'table' ? 'table' : '' }, true)),
          choices(t('language'), language(), [{ value: 'en', text: 'EN', lang: 'en', hint: 'English' }, { value: 'zh-CN', text: '中文', lang: 'zh-CN', hint: '中文' }], chooseLanguage),
          this.theme = themeChoices())),
      this.stale, this.says,
      h('div', { class: 'body' },
        this.main = h('main', { id: 'main', tabindex: '-1' }, this.navNode, this.empty, this.poolsNode),
        this.events.node),
      h('footer', null, this.footer = h('p'),
        h('p', null, t('licences'))));
    show(this.stale, false);
  }

  // update shows the latest snapshot as the page's address says.
  update() {
    this.showLink();
    setText(this.footer, t(offers.levers ? 'footer' : 'footer.read-only', { zone: zone() }));
    for (const button of this.style.children) setAttribute(button, 'aria-pressed', String(button.dataset.value === chosenView()));
    show(this.empty, !snapshot || !snapshot.pools.length);
    setText(this.empty.firstChild, snapshot ? t('no-pools') : t('waiting'));
    setText(this.empty.lastChild, snapshot ? t('no-pools.hint') : '');
    if (!snapshot) return;
    const { pools, now } = snapshot;
    const verdicts = pools.map((pool) => verdict(pool, now));
    const of = (level) => verdicts.filter((v) => v.level === level).length;
    const level = of('bad') ? 'bad' : of('warn') ? 'warn' : 'good';
    setAttribute(root, 'data-level', level);
    setAttribute(this.overall, 'data-level', level);
    const burns = pools.filter((pool) => burning(pool.sla) !== null).length;
    setText(this.overall, !pools.length ? '' : level === 'good' ? t('all.good')
      : [...['bad', 'warn'].map((l) => of(l) && count(`all.${l}`, of(l))), burns && count('all.burning', burns)].filter(Boolean).join(' · '));
    icon(level);
    const title = level === 'good' ? t('title') : `${this.overall.textContent} – ${t('title')}`;
    if (document.title !== title) document.title = title;
    this.showEndpoint(pools, now);
    show(this.navNode, pools.length > 1 && !this.endpoint);
    show(this.poolsNode, !this.endpoint);
    if (!this.endpoint) {
      const ranked = this.pools.update(pools, now);
      this.navItems.update(ranked, ({ pool }) => pool.name);
    }
    this.events.update(pools, now);
  }

  // showEndpoint opens or closes the view of the endpoint in the page's address.
  showEndpoint(pools, now) {
    const [pool, name] = [get('pool'), get('endpoint')];
    const before = this.endpoint;
    if (before && (before.pool !== pool || before.name !== name)) {
      before.remove();
      this.endpoint = null;
      if (!name) {
        this.main.focus();
        scrollTo(0, this.scrolled ?? 0);
      }
    }
    if (!name) return;
    if (!this.endpoint) {
      this.endpoint = new EndpointView(pool, name, log);
      this.main.append(this.endpoint.node);
      if (this.moved) {
        if (!before) this.scrolled = scrollY;
        scrollTo(0, 0);
        this.endpoint.focus();
      }
    }
    this.endpoint.update(pools, now);
  }

  showLink() {
    const { state, silent } = link;
    setAttribute(root, 'data-link', state);
    setText(this.linkText, state === 'stale' ? t('link.stale', { for: elapsed(silent) }) : t(`link.${state}`));
    if (snapshot) {
      setText(this.clock, clock(new Date(snapshot.now)));
      setAttribute(this.clock, 'datetime', new Date(snapshot.now).toISOString());
    }
    const troubled = state === 'stale' || state === 'lost';
    if (troubled) {
      const values = { for: elapsed(silent), at: snapshot ? clock(new Date(snapshot.now)) : '' };
      // Screen readers read a live region on every change, so the text there omits the
      // seconds.
      if (this.trouble !== state) setText(this.says, t(snapshot ? `stale.${state === 'lost' ? 'lost' : 'silent'}` : 'stale.never', values));
      setText(this.stale, t(!snapshot ? 'stale.never' : state === 'lost' ? 'stale.lost' : 'stale.silent', values));
    } else if (this.trouble && state === 'live') {
      setText(this.says, t('stale.back'));
    }
    this.trouble = troubled ? state : null;
    show(this.stale, troubled);
  }

  remove() {
    this.pools.remove();
    this.endpoint?.remove();
    this.node.remove();
  }
}

const chosenView = () => (get('view') === 'table' ? 'table' : 'cards');

// Mark is the logo, a closed breaker.
class Mark {
  constructor() {
    this.node = h('svg', { class: 'mark', viewBox: '0 0 28 20', width: '28', height: '20', 'aria-hidden': 'true', focusable: 'false' },
      h('path', { d: 'M1 6H9L19 14H27' }), h('path', { class: 'faint', d: 'M19 6H27M1 14H9' }),
      h('circle', { cx: '9', cy: '6', r: '2.4' }), h('circle', { cx: '19', cy: '14', r: '2.4' }));
  }
}

function navItem(pool) {
  const lever = new Lever();
  const state = h('span', { class: 'visually-hidden' });
  return {
    node: h('li', null, h('a', { href: `#pool-${encodeURIComponent(pool.name)}` }, lever.node, pool.name, state)),
    update({ verdict: v }) {
      lever.update(v, 0.5);
      setText(state, `: ${v.text}`);
    },
  };
}

function themeChoices() {
  return choices(t('theme'), root.dataset.theme ?? 'auto', ['auto', 'light', 'dark'].map((value) => ({ value, text: themeIcon(value), hint: t(`theme.${value}`) })), chooseTheme);
}

const themePaths = {
  auto: 'M8 2A6 6 0 1 0 8 14Z',
  light: 'M8 5A3 3 0 1 0 8 11A3 3 0 1 0 8 5M8 1V2M8 14V15M1 8H2M14 8H15M3 3L3.7 3.7M12.3 12.3L13 13M3 13L3.7 12.3M12.3 3.7L13 3',
  dark: 'M13 9.5A5.5 5.5 0 1 1 6.5 3A4.5 4.5 0 0 0 13 9.5Z',
};

function themeIcon(theme) {
  return h('svg', { viewBox: '0 0 16 16', width: '16', height: '16', 'aria-hidden': 'true', focusable: 'false' },
    theme === 'auto' ? h('circle', { cx: '8', cy: '8', r: '6' }) : null,
    h('path', { d: themePaths[theme], fill: theme === 'auto' ? 'currentColor' : null }));
}

function chooseTheme(theme) {
  if (theme === 'auto') delete root.dataset.theme;
  else root.dataset.theme = theme;
  remember('theme', theme);
  recolour();
  for (const [i, value] of ['auto', 'light', 'dark'].entries()) view.theme.children[i].setAttribute('aria-pressed', String(value === theme));
}

function chooseLanguage(tag) {
  if (tag === language()) return;
  root.lang = tag;
  remember('language', tag);
  view.remove();
  showView();
  view.node.querySelector(`button[lang="${tag}"]`).focus();
}

function showView() {
  view = new View();
  document.body.append(view.node);
  view.update();
}

let shown = null;
function icon(level) {
  if (level === shown) return;
  shown = level;
  document.querySelector('link[rel=icon]').href = `${meta('assets')}/icon-${level}.svg`;
}

// announce makes screen readers read events that change where requests go, at most one
// sentence every few seconds.
let toSay = [];
let saying = 0;
function announce(event) {
  if (!['breaker_opened', 'breaker_closed', 'all_down', 'pool_up', 'sla_burning', 'operator'].includes(event.kind)) return;
  toSay.push(`${event.pool}: ${sentence(event)}`);
  if (saying) return;
  saying = setTimeout(() => {
    saying = 0;
    setText(view.says, toSay.slice(-3).join('. '));
    toSay = [];
  }, 1500);
}

showView();
listen(() => {
  view.moved = true;
  view.update();
  view.events.draw();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', recolour);
connect(meta('stream'), {
  hello({ version, process, report, levers }) {
    Object.assign(offers, { report, levers });
    // The proxy has newer page files.
    if (version !== meta('version')) location.reload();
    // A new process counts its events from 1.
    if (process !== log.process) {
      log.clear();
      log.process = process;
      ready = false;
    }
  },
  history(data) {
    history.merge(data);
    history.version++;
  },
  incidents(data) {
    log.incidents = data;
    view.events.soon();
  },
  snapshot(data) {
    snapshot = { pools: data.pools, now: Date.parse(data.at) };
    view.update();
  },
  event(event) {
    if (!log.add(event)) return;
    if (!ready) return;
    view.events.soon();
    announce(event);
  },
  ready() {
    ready = true;
    view.events.draw();
  },
  state(state, silent) {
    link = { state, silent };
    view.showLink();
  },
});
