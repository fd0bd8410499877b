import type { InitializeHook, LoadHook } from 'node:module'
import type { Edit } from './mutants.js'

let edits: readonly Edit[] = []

export const initialize: InitializeHook<readonly Edit[]> = (data) => {
  edits = data
}

/** Makes the edits in the modules they are for. */
export const load: LoadHook = async (url, context, nextLoad) => {
  const loaded = await nextLoad(url, context)
  const own = edits.filter(({ file }) => url.endsWith(`/dist/src/${file}`))
  if (own.length === 0) return loaded
  return { ...loaded, source: own.reduce(edited, String(loaded.source)) }
}

/** The source with the edit made; one that does not apply exactly once is an error. */
export function edited(source: string, { file, find, replace }: Edit): string {
  if (source.split(find).length !== 2) throw new Error(`the edit of ${file} does not apply once: ${find}`)
  return source.replace(find, () => replace)
}
