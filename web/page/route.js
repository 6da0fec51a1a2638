// The state of the page in its address, so that a link leads back to what is shown:
//   view=table              endpoints as a table, not as cards
//   pool=, endpoint=, span= the view of one endpoint, and the time that its charts cover
//   open=, fold=            pools that the viewer has opened or folded, one parameter each
//   in=, at=, kind=         the filter of incidents and events: pool, endpoint, kind

let parameters = new URLSearchParams(location.search);
const listeners = new Set();

// get returns a parameter, or '' without one.
export const get = (name) => parameters.get(name) ?? '';

// all returns all values of a parameter.
export const all = (name) => parameters.getAll(name);

function changed(changes) {
  const next = new URLSearchParams(parameters);
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const one of [value].flat()) if (one) next.append(name, one);
  }
  return next;
}

// href returns the address after changes. '' and [] remove a parameter.
export function href(changes) {
  const query = changed(changes).toString();
  return query ? `?${query}` : location.pathname;
}

// go makes changes. They are a step of the browser's history unless `replace` is set.
export function go(changes, replace = false) {
  const address = href(changes);
  parameters = changed(changes);
  history[replace ? 'replaceState' : 'pushState'](null, '', address);
  for (const listener of listeners) listener();
}

// listen calls a function after each change.
export const listen = (listener) => listeners.add(listener);

addEventListener('popstate', () => {
  parameters = new URLSearchParams(location.search);
  for (const listener of listeners) listener();
});

// follow makes a link change the address without loading the page.
export function follow(event, changes) {
  if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(changes);
}
