import type { FastifyPluginAsync } from 'fastify'
import { parentUid } from '../../src/hook-call.js'
import type { TopologyRoutes } from '../../src/server.js'
import { toWire } from '../../src/wire.js'

/** Cancels the migration of a volume and lets go once Mayastor is as it was found. */
export const topologyFinalize: FastifyPluginAsync<TopologyRoutes> = async (app, { calls, flight, topology }) => {
  app.post('/hooks/replica-topology/finalize', async (request, reply) => {
    const uid = parentUid(request.body)
    const answer = await calls.run(reply, (signal) =>
      flight.run(uid, () => topology.finalize(request.body, signal, request.log)),
    )
    return reply.type('application/json').send(toWire(answer))
  })
}
