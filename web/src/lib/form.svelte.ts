import { tick, untrack } from "svelte";
import { Failed, Refused } from "./graphql";
import { say, type Text } from "./language.svelte";

const UNREACHED: Text = [
  "Le serveur ne répond pas. Rien n’a été perdu : réessayez.",
  "The server does not answer. Nothing is lost: try again.",
];
/** The server takes files of so many bytes; `file_bytes` in api/transport.py says so. */
const MOST_FILE_BYTES = 10 * 1024 * 1024;
const TOO_LARGE: Text = ["Ce fichier est trop volumineux : 10 Mo au plus.", "This file is too large: 10 MB at most."];

/** What is said of what is empty. */
export const EMPTY: Text = ["À remplir.", "Please fill this in."];

/** What somebody fills in: its values, what is wrong with them, and whether it is on its way. */
export class Form<Values extends object> {
  values: Values;
  /** What is wrong, by the name of its field: the last one of its path in the API, and for a list all from the list's
   * own name on (“pointsOfSale.0.code”). */
  problems = $state<Readonly<Record<string, string>>>({});
  /** What is wrong with the whole. */
  message = $state("");
  busy = $state(false);

  /** What on the page was submitted last to send it. */
  #element: HTMLFormElement | null = null;
  #key = "";
  #keyed = "";

  constructor(values: Values) {
    this.values = $state(values);
  }

  /** The key under which these values are sent: the same one again until they change, so that a retry does nothing
   * twice. */
  get key(): string {
    const values = JSON.stringify(this.values, (_, value: unknown) =>
      value instanceof File ? [value.name, value.size, value.lastModified] : value,
    );
    if (values !== this.#keyed) [this.#keyed, this.#key] = [values, crypto.randomUUID()];
    return this.#key;
  }

  /** Once done, the same values again are something new. */
  renew(): void {
    this.#keyed = "";
  }

  /** Do it, once at a time. What is refused is shown at its field, and the first one of them gets the focus; returns
   * undefined then. */
  async send<Result>(deed: () => Promise<Result>): Promise<Result | undefined> {
    // An effect that sends does not do so again because it is done.
    if (untrack(() => this.busy)) return undefined;
    const large = this.#tooLarge();
    if (large) {
      this.refuse(large);
      return undefined;
    }
    [this.busy, this.problems, this.message, this.#element] = [true, {}, "", submitted];
    try {
      const result = await deed();
      this.renew();
      return result;
    } catch (error) {
      this.#explain(error);
      await this.#focus();
      return undefined;
    } finally {
      this.busy = false;
    }
  }

  /** Something is wrong that no server had to be asked for. */
  refuse(problems: Readonly<Record<string, string>>): void {
    [this.problems, this.#element] = [problems, submitted];
    void this.#focus();
  }

  /** Files that the server would cut off in the middle, and then could not say whose they are. */
  #tooLarge(): Record<string, string> | null {
    const large = Object.entries(untrack(() => this.values)).filter(
      ([, value]) => value instanceof File && value.size > MOST_FILE_BYTES,
    );
    return large.length > 0 ? Object.fromEntries(large.map(([name]) => [name, say(TOO_LARGE)])) : null;
  }

  async #focus(): Promise<void> {
    await tick();
    const within = this.#element?.isConnected ? this.#element : document;
    (firstProblem(within, this.problems) ?? firstProblem(document, this.problems))?.focus();
  }

  /** Whether any of these is empty; says so at it. */
  lacks(values: Readonly<Record<string, string>>): boolean {
    const empty = Object.entries(values).filter(([, value]) => value.trim() === "");
    if (empty.length > 0) this.refuse(Object.fromEntries(empty.map(([name]) => [name, say(EMPTY)])));
    return empty.length > 0;
  }

  #explain(error: unknown): void {
    if (error instanceof Refused) {
      this.problems = Object.fromEntries(error.problems.map(({ path, message }) => [fieldOf(path), message]));
      const shown = new Set([...document.querySelectorAll<HTMLElement>("[data-field]")].map((e) => e.dataset["field"]));
      const elsewhere = error.problems.filter(({ path }) => !shown.has(fieldOf(path)));
      this.message = error.problems.length === 0 ? error.message : elsewhere.map(({ message }) => message).join(" ");
    } else if (error instanceof Failed) {
      this.message = error.message;
    } else {
      this.message = say(UNREACHED);
    }
  }
}

/** “pointsOfSale.0.code” of a list, “code” of anything else. */
function fieldOf(path: readonly string[]): string {
  const at = path.findIndex((name) => /^\d+$/.test(name));
  return at > 0 ? path.slice(at - 1).join(".") : (path.at(-1) ?? "");
}

function firstProblem(within: ParentNode, problems: Readonly<Record<string, string>>): HTMLElement | null {
  const wrong = [...within.querySelectorAll<HTMLElement>('[aria-invalid="true"]')];
  return (
    wrong.find((element) => (element.dataset["field"] ?? "") in problems) ??
    wrong[0] ??
    within.querySelector<HTMLElement>("[data-wrong]")
  );
}

/** The form whose submission is being handled; two of them may stand on one screen. */
let submitted: HTMLFormElement | null = null;
addEventListener(
  "submit",
  ({ target }) => {
    submitted = target instanceof HTMLFormElement ? target : null;
    setTimeout(() => (submitted = null));
  },
  { capture: true },
);
