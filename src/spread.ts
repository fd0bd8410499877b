/** `seconds`, longer by up to a quarter according to the uid, so that objects do not all wake at once. */
export function spread(seconds: number, uid: string): number {
  let hash = 0
  for (const character of uid) hash = (hash * 31 + character.charCodeAt(0)) >>> 0
  return seconds + (hash % (Math.floor(seconds / 4) + 1))
}
