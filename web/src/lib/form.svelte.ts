import { tick, untrack } from "svelte";
import { Failed, Refused } from "./graphql";
import { say, type Text } from "./language.svelte";

const UNREACHED: Text = [
  "Le serveur ne répond pas. Rien n’a été perdu : réessayez.",
  "The server does not answer. Nothing is lost: try again.",
];

/** What is said of what is empty. */
export const EMPTY: Text = ["À remplir.", "Please fill this in."];

/** What somebody fills in: its values, what is wrong with them, and whether it is on its way. */
export class Form<Values extends object> {
  values: Values;
  /** What is wrong, by the last name of the field's path in the API. */
  problems = $state<Readonly<Record<string, string>>>({});
  /** What is wrong with the whole. */
  message = $state("");
  busy = $state(false);

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
    [this.busy, this.problems, this.message] = [true, {}, ""];
    try {
      const result = await deed();
      this.renew();
      return result;
    } catch (error) {
      this.#explain(error);
      await tick();
      focusOnFirstProblem();
      return undefined;
    } finally {
      this.busy = false;
    }
  }

  /** Something is wrong that no server had to be asked for. */
  refuse(problems: Readonly<Record<string, string>>): void {
    this.problems = problems;
    void tick().then(focusOnFirstProblem);
  }

  /** Whether any of these is empty; says so at it. */
  lacks(values: Readonly<Record<string, string>>): boolean {
    const empty = Object.entries(values).filter(([, value]) => value.trim() === "");
    if (empty.length > 0) this.refuse(Object.fromEntries(empty.map(([name]) => [name, say(EMPTY)])));
    return empty.length > 0;
  }

  #explain(error: unknown): void {
    if (error instanceof Refused) {
      this.problems = Object.fromEntries(error.problems.map(({ path, message }) => [path.at(-1) ?? "", message]));
      const shown = new Set([...document.querySelectorAll<HTMLElement>("[data-field]")].map((e) => e.dataset["field"]));
      const elsewhere = error.problems.filter(({ path }) => !shown.has(path.at(-1) ?? ""));
      this.message = error.problems.length === 0 ? error.message : elsewhere.map(({ message }) => message).join(" ");
    } else if (error instanceof Failed) {
      this.message = error.message;
    } else {
      this.message = say(UNREACHED);
    }
  }
}

function focusOnFirstProblem(): void {
  const wrong =
    document.querySelector<HTMLElement>('[aria-invalid="true"]') ?? document.querySelector<HTMLElement>("[data-wrong]");
  wrong?.focus();
}
