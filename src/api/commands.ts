import { RELEASE_ANNOTATION, RESUME_ANNOTATION } from './names.js'

/** What a person may type, the same words wherever it is said. */

/** Lets new migrations of a policy start again. */
export const resumeCommand = (policy: string, trip: string): string =>
  `kubectl annotate sp ${policy} ${RESUME_ANNOTATION}=${trip} --overwrite`

/** How a Held migration goes on. `holdId`: that of its status, which is there when it waits for a person. */
export const goesOn = (topology: string, holdId: string | undefined): string =>
  holdId === undefined
    ? 'it goes on by itself when that is over'
    : `it goes on when released: kubectl annotate rt ${topology} ${RELEASE_ANNOTATION}=${holdId} --overwrite`
