/**
 * Deliberate defects, each an edit of a compiled module that is made while it is loaded. The product knows nothing of
 * them. Random runs have to find every one; if a module changes so that an edit does not apply, the run fails.
 */
export interface Edit {
  /** Under `dist/src`. */
  readonly file: string
  readonly find: string
  readonly replace: string
}

export interface Mutant {
  readonly name: string
  readonly edits: readonly Edit[]
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'one reading instead of two',
    edits: [{ file: 'step/await-sync.js', find: 'CONFIRM_MS - readingAgeMs', replace: '0' }],
  },
  {
    name: 'no node label on removal',
    edits: [
      {
        file: 'step/shrink.js',
        find: 'if (leaving?.node !== undefined) {',
        replace: 'if (leaving?.node !== undefined && journal.undo !== undefined) {',
      },
    ],
  },
  {
    name: 'no label on undo',
    edits: [
      {
        file: 'step/shrink.js',
        find: 'if (leaving?.node !== undefined) {',
        replace: 'if (leaving?.node !== undefined && journal.undo === undefined) {',
      },
    ],
  },
  {
    name: 'uncordon before the outcome is known',
    edits: [
      {
        file: 'step/next-step.js',
        find: 'return resolve(journal, journal.call, s);',
        replace: 'return (journal.phase === "ScalingUp" && closeBracket(s)) || resolve(journal, journal.call, s);',
      },
    ],
  },
  {
    name: 'no waiting after a timed-out call',
    edits: [
      {
        file: 'step/bracket.js',
        find: 'function isOver(call, { callAgeMs, view }) {',
        replace: 'function isOver(call, { callAgeMs, view }) { return true;',
      },
    ],
  },
  {
    name: 'write before the journal',
    edits: [
      {
        file: 'step/act.js',
        find: 'const { clock } = deps;\n    const swapped',
        replace:
          'const { clock } = deps;\n    await request(deps.mayastor, volumeID, call, readAt + MAX_WINDOW_MS).catch(() => {});\n    const swapped',
      },
    ],
  },
  {
    name: 'blind retry',
    edits: [
      {
        file: 'clients/mayastor.js',
        find: 'await call(...parameters);',
        replace:
          'await call(...parameters).catch((error) => error.failure === "unknown" ? call(...parameters) : Promise.reject(error));',
      },
    ],
  },
  {
    name: 'identity by pool',
    edits: [
      {
        file: 'step/replicas.js',
        find: 'new Set(journal.baseline.map((entry) => entry.replica));\n    return volume.replicas.filter((replica) => !known.has(replica.uuid));',
        replace:
          'new Set(journal.baseline.map((entry) => entry.pool));\n    return volume.replicas.filter((replica) => !known.has(replica.pool));',
      },
      {
        file: 'step/replicas.js',
        find: 'new Set(volume.replicas.map((replica) => replica.uuid));\n    return journal.baseline.filter((entry) => !there.has(entry.replica));',
        replace:
          'new Set(volume.replicas.map((replica) => replica.pool));\n    return journal.baseline.filter((entry) => !there.has(entry.pool));',
      },
    ],
  },
  {
    name: 'sweeping without a live list',
    edits: [
      {
        file: 'step/bracket.js',
        find: 'if (s.fence.volume === s.volumeID)\n        return undefined;\n    const label = ownLabel(s);\n    if (label === undefined)\n        return undefined;',
        replace:
          'for (const node of s.view.nodes.values()) { const label = node.cordonLabels.find((text) => text.startsWith(NODE_LABEL_PREFIX) && !text.includes(s.volumeID)); if (label !== undefined) return call(s.journal, s, { op: "uncordonNode", node: node.id, label }, "Uncordoning", ""); }\n    return undefined;\n    const label = undefined;',
      },
    ],
  },
  {
    name: 'removing a foreign cordon',
    edits: [
      {
        file: 'step/bracket.js',
        find: 'if (!hasNewBit(pool, before)) {',
        replace: 'if (true) {',
      },
      {
        file: 'step/bracket.js',
        find: '|| announced?.has(id) === false)',
        replace: ')',
      },
    ],
  },
  {
    name: 'honouring the deadline during ScalingDown',
    edits: [
      {
        file: 'step/shrink.js',
        find: 'const leaving = find(volume, victim);',
        replace:
          'if (journal.undo === undefined && find(volume, journal.move.added) && now - journal.move.startedAt > journal.timeoutMs) { const { removalSentAt: _, refused: __, ...back } = journal; return undo(back, find(volume, journal.move.added), "NoProgress", ""); }\n    const leaving = find(volume, victim);',
      },
    ],
  },
  {
    name: 'no snapshot re-check',
    edits: [
      {
        file: 'step/await-sync.js',
        find: 'if (volume.snapshots !== journal.snapshots)',
        replace: 'if (false)',
      },
      {
        file: 'step/shrink.js',
        find: 'if (added !== undefined && !isSent && volume.snapshots !== journal.snapshots) {',
        replace: 'if (false) {',
      },
    ],
  },
  {
    name: 'forgetting the tombstone',
    edits: [
      {
        file: 'step/act.js',
        find: 'deps.observer.ended(step.journal, situation.view.volume);',
        replace:
          'deps.observer.ended(step.journal, situation.view.volume);\n            if (!isActive(step.journal)) { const gone = await deps.leases.get(journalName(situation.volumeID)); if (gone) await deps.leases.remove(gone.name, gone.version); }',
      },
    ],
  },
]
