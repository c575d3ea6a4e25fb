// Light or dark, before the first paint. Without a choice of the reader's the system's preference rules.
(() => {
  const key = "lorebase.theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try {
    chosen = localStorage.getItem(key);
  } catch {
    // Storage is forbidden here: the choice lasts as long as the page.
  }

  const theme = {
    /** "light" or "dark": what the reader sees now. */
    current: () => chosen ?? (system.matches ? "dark" : "light"),

    /** Switches to the other one. A choice equal to the system's is forgotten, so that the page follows it again. */
    toggle() {
      const next = theme.current() === "dark" ? "light" : "dark";
      chosen = next === (system.matches ? "dark" : "light") ? null : next;
      try {
        if (chosen) localStorage.setItem(key, chosen);
        else localStorage.removeItem(key);
      } catch {
        // As above.
      }
      apply();
    },
  };

  function apply() {
    document.documentElement.dataset.theme = theme.current();
    document.dispatchEvent(new Event("themechange"));
  }

  if (chosen !== "light" && chosen !== "dark") chosen = null;
  system.addEventListener("change", apply);
  apply();
  window.lorebaseTheme = theme;
})();
