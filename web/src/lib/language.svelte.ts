/** A sentence in French and English; `{names}` in it are filled with facts. */
export type Text = readonly [fr: string, en: string];
export type Language = "fr" | "en";
export type Facts = Readonly<Record<string, string | number>>;

const KEPT = "language";

/** The language of everything shown; it may change at any moment, and every screen follows without losing anything. */
class Current {
  #language = $state<Language>(first());

  get language(): Language {
    return this.#language;
  }

  set language(language: Language) {
    this.#language = language;
    localStorage.setItem(KEPT, language);
    tell(language);
  }

  /** As the schema names it. */
  get locale(): "FR" | "EN" {
    return this.#language === "fr" ? "FR" : "EN";
  }

  /** As the browser's formats name it. */
  get tag(): "fr-FR" | "en-GB" {
    return this.#language === "fr" ? "fr-FR" : "en-GB";
  }
}

export const current = new Current();

/** A sentence in the current language. */
export function say(text: Text, facts: Facts = {}): string {
  return text[current.language === "fr" ? 0 : 1].replace(/\{(\w+)\}/g, (all, name: string) =>
    name in facts ? String(facts[name]) : all,
  );
}

/** The sentence for so many: `{n}` in it is the number. */
export function count(n: number, one: Text, other: Text, facts: Facts = {}): string {
  const rule = new Intl.PluralRules(current.tag).select(n);
  return say(rule === "one" ? one : other, { n: new Intl.NumberFormat(current.tag).format(n), ...facts });
}

/** What the server says in both languages, so that another language needs no other question. */
export interface InWords {
  readonly statusFr: string;
  readonly statusEn: string;
}

/** A status in words. */
export function statusOf({ statusFr, statusEn }: InWords): string {
  return say([statusFr, statusEn]);
}

function first(): Language {
  const kept = localStorage.getItem(KEPT);
  const language = kept === "fr" || kept === "en" ? kept : navigator.language.startsWith("en") ? "en" : "fr";
  tell(language);
  return language;
}

/** Screen readers, and whoever installs the application, hear which language it is. */
function tell(language: Language): void {
  document.documentElement.lang = language;
  document
    .querySelector('link[rel="manifest"]')
    ?.setAttribute("href", language === "fr" ? "/manifest.webmanifest" : `/manifest.${language}.webmanifest`);
}
