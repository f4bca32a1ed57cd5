import { whyUnanswered } from "./graphql";

interface Connection<Node> {
  readonly nodes: readonly Node[];
  readonly totalCount: number;
  readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor?: string | null };
}

/** A list that comes page by page: what it asks, and what has come. What is asked last is shown, whatever comes first. */
export class Pages<Node> {
  nodes = $state.raw<readonly Node[]>([]);
  totalCount = $state<number | null>(null);
  hasMore = $state(false);
  busy = $state(false);
  problem = $state("");

  #ask: (after: string | null) => Promise<Connection<Node>>;
  #end: string | null = null;
  #asked = 0;

  constructor(ask: (after: string | null) => Promise<Connection<Node>>) {
    this.#ask = ask;
  }

  /** From the beginning; what is shown stays until the answer has come. */
  async reload(): Promise<void> {
    await this.#load(null);
  }

  /** The next page, below what is there. */
  async more(): Promise<void> {
    if (!this.busy) await this.#load(this.#end);
  }

  async #load(after: string | null): Promise<void> {
    const asked = ++this.#asked;
    this.busy = true;
    try {
      const page = await this.#ask(after);
      if (asked !== this.#asked) return;
      this.nodes = after === null ? page.nodes : [...this.nodes, ...page.nodes];
      this.totalCount = page.totalCount;
      this.hasMore = page.pageInfo.hasNextPage;
      this.#end = page.pageInfo.endCursor ?? null;
      this.problem = "";
    } catch (error) {
      if (asked !== this.#asked) return;
      this.problem = whyUnanswered(error);
    } finally {
      if (asked === this.#asked) this.busy = false;
    }
  }
}

/** A list that is asked at once, and anew whenever what its question reads changes: the address, the language. Call it
 * while a screen is made. */
export function listed<Node>(ask: (after: string | null) => Promise<Connection<Node>>): Pages<Node> {
  const pages = new Pages(ask);
  $effect(() => void pages.reload());
  return pages;
}
