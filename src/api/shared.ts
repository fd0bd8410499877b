import { type Static, Type } from 'typebox'

/** A non-negative integer. */
export const Count = (description: string) => Type.Integer({ minimum: 0, description })

export const Timestamp = (description: string) => Type.String({ format: 'date-time', maxLength: 40, description })

export const ObservedGeneration = Type.Optional(
  Type.Integer({ description: 'Generation of the object this status was computed from; written by Metacontroller.' }),
)

export const Condition = Type.Object({
  type: Type.String({ maxLength: 316 }),
  status: Type.Enum(['True', 'False', 'Unknown'], { type: 'string' }),
  reason: Type.String({ maxLength: 128 }),
  message: Type.String({ maxLength: 4096 }),
  lastTransitionTime: Timestamp('When status last changed.'),
})
export type Condition = Static<typeof Condition>

export const Conditions = Type.Array(Condition, {
  maxItems: 16,
  'x-kubernetes-list-type': 'map',
  'x-kubernetes-list-map-keys': ['type'],
})

/** A reason for people: CamelCase and stable, with a sentence. */
export const Reason = Type.Object({
  reason: Type.String({ maxLength: 64 }),
  message: Type.String({ maxLength: 1024 }),
})
export type Reason = Static<typeof Reason>
