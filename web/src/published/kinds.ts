import type { PublishedDocumentFragment } from "../generated/operations";
import type { Text } from "../lib/language.svelte";

export type Kind = NonNullable<PublishedDocumentFragment["kind"]>;

/** What documents are, in the order in which they are listed. */
export const KINDS: readonly { readonly value: Kind; readonly label: Text }[] = [
  { value: "GUIDE", label: ["Guides", "Guides"] },
  { value: "COMMUNICATION", label: ["Outils de communication", "Communication material"] },
  { value: "FAQ", label: ["Questions fréquentes", "Frequent questions"] },
];
