// Applies the viewer's saved choices before the first paint.
{
  const kept = (name) => {
    try { return localStorage.getItem(`failover.${name}`); } catch { return null; }
  };
  const preferred = () => {
    for (const language of navigator.languages ?? [navigator.language]) {
      if (/^zh\b/i.test(language)) return 'zh-CN';
      if (/^en\b/i.test(language)) return 'en';
    }
    return 'en';
  };
  const root = document.documentElement;
  root.lang = ['en', 'zh-CN'].includes(kept('language')) ? kept('language') : preferred();
  if (['light', 'dark'].includes(kept('theme'))) root.dataset.theme = kept('theme');
}
