/**
 * An EventTarget whose events have types, for editors and for TypeScript. There is nothing in it that runs but the platform's own class.
 */

/**
 * @template Events what `detail` is, by the name of the event
 * @typedef {Omit<EventTarget, "addEventListener" | "removeEventListener"> & {
 *   addEventListener<Name extends keyof Events & string>(type: Name, listener: (event: CustomEvent<Events[Name]>) => void, options?: boolean | AddEventListenerOptions): void,
 *   removeEventListener<Name extends keyof Events & string>(type: Name, listener: (event: CustomEvent<Events[Name]>) => void, options?: boolean | EventListenerOptions): void,
 * }} TypedTarget
 */

export {};
