import { say, type Text } from "./language.svelte";

/** Which of these is meant by what stands in the address; null for none. */
export function oneOf<Value extends string>(names: Readonly<Record<Value, unknown>>, given: string | null) {
  return given !== null && Object.hasOwn(names, given) ? (given as Value) : null;
}

/** The options of a list of choices. */
export function options<Value extends string>(
  names: Readonly<Record<Value, Text>>,
): readonly { readonly value: Value; readonly label: string }[] {
  return (Object.keys(names) as Value[]).map((value) => ({ value, label: say(names[value]) }));
}
