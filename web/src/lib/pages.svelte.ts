import { onDestroy } from "svelte";
import { whyUnanswered } from "./graphql";
import { keepRows, rowsLeft } from "./router.svelte";

interface Connection<Node> {
  readonly nodes: readonly Node[];
  readonly totalCount: number;
  readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor?: string | null };
}

/** What came first and what came last, of answers and live events about the same thing. An answer that was asked for before
 * something newer came is older, whenever it arrives. */
export class Newest {
  #last = 0;

  /** Something newer comes, or is asked for; the function that is returned tells whether it is still the newest. */
  next(): () => boolean {
    const mine = ++this.#last;
    return () => mine === this.#last;
  }
}

/** What tells a node of a list from the others. */
export function nodeKey(node: object): unknown {
  const { id, token } = node as { readonly id?: string; readonly token?: string };
  return id ?? token ?? node;
}

/** Those that are not there before: what has moved meanwhile comes on two pages. */
function unlike<Node extends object>(before: readonly Node[], nodes: readonly Node[]): readonly Node[] {
  const known = new Set(before.map(nodeKey));
  return nodes.filter((node) => !known.has(nodeKey(node)));
}

/** A list that comes page by page: what it asks, and what has come. What is asked last is shown, whatever comes first; what
 * was asked before a live event is asked again. `accepted` hears of each page that is shown. Made while its screen is. */
export class Pages<Node extends object, Page extends Connection<Node> = Connection<Node>> {
  nodes = $state.raw<readonly Node[]>([]);
  totalCount = $state<number | null>(null);
  hasMore = $state(false);
  busy = $state(false);
  problem = $state("");

  #ask: (after: string | null) => Promise<Page>;
  #accepted: (page: Page) => void;
  #end: string | null = null;
  /** Whether something has been shown; unlike the total, nobody who asks anew depends on it. */
  #begun = false;
  readonly #asked = new Newest();
  readonly #told = new Newest();

  constructor(ask: (after: string | null) => Promise<Page>, accepted: (page: Page) => void = () => undefined) {
    this.#ask = ask;
    this.#accepted = accepted;
    // Nothing more is asked for a screen that is gone.
    onDestroy(() => this.#asked.next());
  }

  /** From the beginning, and the first time as far as the screen was left; what is shown stays until the answer has
   * come. */
  async reload(): Promise<void> {
    await this.#load(null, this.#begun ? 0 : rowsLeft());
  }

  /** The same pages again, as they are now. */
  async refresh(): Promise<void> {
    await this.#load(null, this.nodes.length);
  }

  /** The next page, below what is there. */
  async more(): Promise<void> {
    if (!this.busy) await this.#load(this.#end);
  }

  /** A live event has told of other nodes. What is on its way was asked for before: it is asked for again. Without a
   * total, the server is asked for it. */
  tell(nodes: readonly Node[], totalCount: number | null): void {
    this.#told.next();
    if (this.totalCount === null) return;
    this.nodes = nodes;
    if (totalCount === null) void this.#count();
    else this.totalCount = totalCount;
  }

  async #load(after: string | null, atLeast = 0): Promise<void> {
    const [isAskedLast, isToldLast] = [this.#asked.next(), this.#told.next()];
    this.busy = true;
    try {
      let page = await this.#ask(after);
      while (isAskedLast() && page.nodes.length < atLeast && page.pageInfo.hasNextPage) {
        const next = await this.#ask(page.pageInfo.endCursor ?? null);
        page = { ...next, nodes: [...page.nodes, ...unlike(page.nodes, next.nodes)] };
      }
      if (!isAskedLast()) return;
      // Where nothing is shown yet, what is old is better than nothing.
      if (isToldLast() || this.totalCount === null) this.#show(page, after);
      if (!isToldLast()) await this.#load(after, atLeast);
    } catch (error) {
      if (!isAskedLast()) return;
      this.problem = whyUnanswered(error);
    } finally {
      if (isAskedLast()) this.busy = false;
    }
  }

  #show(page: Page, after: string | null): void {
    const before = after === null ? [] : this.nodes;
    this.nodes = [...before, ...unlike(before, page.nodes)];
    this.totalCount = page.totalCount;
    this.hasMore = page.pageInfo.hasNextPage;
    this.#end = page.pageInfo.endCursor ?? null;
    this.problem = "";
    this.#accepted(page);
    void keepRows(this.nodes.length, { begins: !this.#begun });
    this.#begun = true;
  }

  /** How many there are, where only the server can tell; what is shown stays. */
  async #count(): Promise<void> {
    // What is on its way tells it too.
    if (this.busy) return;
    const [isAskedLast, isToldLast] = [this.#asked.next(), this.#told.next()];
    const page = await this.#ask(null).catch(() => null);
    if (page === null || !isAskedLast()) return;
    this.totalCount = page.totalCount;
    if (!isToldLast()) await this.#count();
  }
}

/** A list, to who shows it. */
export type Listed<Node extends object> = Pick<
  Pages<Node>,
  "nodes" | "totalCount" | "hasMore" | "busy" | "problem" | "reload" | "more"
>;

/** A list that is asked at once, and anew whenever what its question reads changes: the address, the language. Call it
 * while a screen is made. */
export function listed<Node extends object>(ask: (after: string | null) => Promise<Connection<Node>>): Pages<Node> {
  const pages = new Pages<Node>(ask);
  $effect(() => void pages.reload());
  return pages;
}
