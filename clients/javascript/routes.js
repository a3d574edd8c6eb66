// Made by generate.py from the OpenAPI document of the service: a method for each route.

// A method takes the parts of its path, then the body of its request if there is one, then
// `options`: the names of its query, `idempotencyKey` of a POST, `signal` of an AbortController.

const asked = ({ idempotencyKey, signal, ...query }, body) => {
  return { query, body, idempotencyKey, signal };
};
const part = encodeURIComponent;

class Group {
  constructor(call) {
    this.call = call;
  }
}

class System extends Group {
  /**
   * The process is alive (always 200), and what it saw when it last looked at its parts, which it
   * does every 5 s.
   */
  health(options = {}) {
    return this.call("GET", "/health", asked(options));
  }

  /**
   * It can do its work: the database can be reached, the data folder takes what is written, and
   * nothing waits.
   */
  ready(options = {}) {
    return this.call("GET", "/health/ready", asked(options));
  }

  /**
   * All metrics, in Prometheus' text form; the same for a second.
   */
  prometheus(options = {}) {
    return this.call("GET", "/metrics", asked(options));
  }

  /**
   * What runs here: versions, connections and tables of the database, the connection pool, and how
   * well the live streams are read.
   */
  info(options = {}) {
    return this.call("GET", "/system/info", asked(options));
  }
}

class Admin extends Group {
  /**
   * Forget all kept answers.
   */
  clearCache(options = {}) {
    return this.call("POST", "/api/v1/admin/clear-cache", asked(options));
  }

  /**
   * All API keys, newest first, also those that have ended.
   */
  listKeys(options = {}) {
    return this.call("GET", "/api/v1/admin/keys", asked(options));
  }

  /**
   * A new API key, for `days` or for ever. It is shown this once; a hash of it is kept.
   */
  makeKey(body, options = {}) {
    return this.call("POST", "/api/v1/admin/keys", asked(options, body));
  }

  /**
   * A new key in place of another one, by its middle part: name, role and length of validity are
   * the same. The old one works for `overlap_h` more hours. The new one is shown this once.
   */
  rotateKey(id, body, options = {}) {
    return this.call("POST", `/api/v1/admin/keys/${part(id)}/rotate`, asked(options, body));
  }

  /**
   * End a token before its time; its streams end within seconds.
   */
  revokeToken(body, options = {}) {
    return this.call("POST", "/api/v1/admin/tokens/revoke", asked(options, body));
  }

  /**
   * Revoke a key, by its middle part.
   */
  revokeKey(id, options = {}) {
    return this.call("DELETE", `/api/v1/admin/keys/${part(id)}`, asked(options));
  }

  /**
   * Erase all records of one simulation, also those that were put aside.
   */
  eraseSimulation(id, options = {}) {
    return this.call("DELETE", `/api/v1/admin/simulations/${part(id)}`, asked(options));
  }

  /**
   * The schedule of backups and retention, and their newest 50 runs with duration and size.
   */
  upkeep(options = {}) {
    return this.call("GET", "/api/v1/admin/upkeep", asked(options));
  }

  /**
   * Run a task now: a backup; retention; or a drill, which restores the newest backup into a
   * database of its own, counts its rows, compares them with those it was made of, and drops it.
   */
  runUpkeep(task, options = {}) {
    return this.call("POST", `/api/v1/admin/upkeep/${part(task)}`, asked(options));
  }

  /**
   * Entries of the audit trail, newest first. Query: who, what, status, begin, end, before, limit.
   */
  readAudit(options = {}) {
    return this.call("GET", "/api/v1/admin/audit", asked(options));
  }

  /**
   * Whether the audit trail is whole.
   */
  verify(options = {}) {
    return this.call("GET", "/api/v1/admin/audit/verify", asked(options));
  }
}

class Live extends Group {
  /**
   * A ticket for one WebSocket or event stream (`?ticket=`), where no header can be set: unlike a
   * token it does no harm in logs and histories.
   */
  ticket(options = {}) {
    return this.call("POST", "/api/v1/tickets", asked(options));
  }

  /**
   * The messages after `last_id`, of the last 512 of the stream; without it the oldest that are
   * kept. Where there are none, it waits for up to `wait_s` seconds for the next one. Query:
   * street, kinds, format, compress, last_id, wait_s, limit.
   */
  history(topic, options = {}) {
    return this.call("GET", `/api/v1/live/${part(topic)}/history`, asked(options));
  }
}

class Ingestion extends Group {
  /**
   * Take one record: 201 stored, 200 it was there already, 202 kept on disk until the database is
   * back; 409: there is another one under its key (simulation, junction, time).
   */
  one(body, options = {}) {
    return this.call("POST", "/api/v1/ingest/simulation", asked(options, body));
  }

  /**
   * Take up to 5,000 records. 201: all were taken (new or known); 207: some were not, each reported
   * by its place (as 409 where its key is known with other content); 422: none was sound.
   */
  batch(body, options = {}) {
    return this.call("POST", "/api/v1/ingest/batch", asked(options, body));
  }
}

class Records extends Group {
  /**
   * What crossed the lines of cameras, by intervals of 5 or 15 minutes: counts, flows, speeds.
   * Query: limit, cursor, interval_min, by_class, camera, line, begin, end.
   */
  counts(options = {}) {
    return this.call("GET", "/api/v1/counts", asked(options));
  }

  /**
   * The ingested simulations, by name. Query: limit, cursor.
   */
  simulations(options = {}) {
    return this.call("GET", "/api/v1/simulations", asked(options));
  }

  /**
   * One ingested simulation.
   */
  simulation(id, options = {}) {
    return this.call("GET", `/api/v1/simulations/${part(id)}`, asked(options));
  }

  /**
   * The junctions of which records were ingested, by name; of one simulation, or of all. Query:
   * simulation_id, limit, cursor.
   */
  junctions(options = {}) {
    return this.call("GET", "/api/v1/junctions", asked(options));
  }

  /**
   * One junction, over all simulations.
   */
  junction(id, options = {}) {
    return this.call("GET", `/api/v1/junctions/${part(id)}`, asked(options));
  }

  /**
   * Ingested records, by simulation, junction and time. Query: limit, cursor, simulation_id,
   * intersection_id, begin, end.
   */
  records(options = {}) {
    return this.call("GET", "/api/v1/records", asked(options));
  }

  /**
   * One record: its newest version.
   */
  record(simulationId, intersectionId, timestamp, options = {}) {
    return this.call("GET", `/api/v1/records/${part(simulationId)}/${part(intersectionId)}/${part(timestamp)}`, asked(options));
  }

  /**
   * Correct a record: a new version takes its place, and the old one is kept. 409: it is not the
   * `version` given any more, and says something else.
   */
  correctRecord(simulationId, intersectionId, timestamp, body, options = {}) {
    return this.call("PUT", `/api/v1/records/${part(simulationId)}/${part(intersectionId)}/${part(timestamp)}`, asked(options, body));
  }

  /**
   * All versions of a record, the newest first.
   */
  versions(simulationId, intersectionId, timestamp, options = {}) {
    return this.call("GET", `/api/v1/records/${part(simulationId)}/${part(intersectionId)}/${part(timestamp)}/versions`, asked(options));
  }

  /**
   * All counts of cameras of a filter as a file. Query: format, interval_min, by_class, camera,
   * line, begin, end.
   */
  exportCounts(options = {}) {
    return this.call("GET", "/api/v1/export/counts", asked(options));
  }

  /**
   * All ingested simulations as a file. Query: format.
   */
  exportSimulations(options = {}) {
    return this.call("GET", "/api/v1/export/simulations", asked(options));
  }

  /**
   * All junctions of one simulation, or of all, as a file. Query: simulation_id, format.
   */
  exportJunctions(options = {}) {
    return this.call("GET", "/api/v1/export/junctions", asked(options));
  }

  /**
   * All ingested records of a filter as a file; `signals` as JSON. Query: format, simulation_id,
   * intersection_id, begin, end.
   */
  exportRecords(options = {}) {
    return this.call("GET", "/api/v1/export/records", asked(options));
  }
}

class Observations extends Group {
  /**
   * Take up to 5,000 rows. 202: the street has all for its next decision; 207: some were refused,
   * each with its place; 422: none could be taken; 429: all were over the rate of their source.
   * Query: street.
   */
  post(body, options = {}) {
    return this.call("POST", "/api/v1/observations", asked(options, body));
  }

  /**
   * The sources of a street: weight, what it is made of, rows taken and refused, when last seen.
   * Query: street.
   */
  sources(options = {}) {
    return this.call("GET", "/api/v1/observations/sources", asked(options));
  }

  /**
   * What rows may speak of: junctions, with their approaches and crossings. Query: street.
   */
  places(options = {}) {
    return this.call("GET", "/api/v1/observations/places", asked(options));
  }
}

class Analytics extends Group {
  /**
   * Totals and means of one simulation.
   */
  summary(id, options = {}) {
    return this.call("GET", `/api/v1/analytics/simulation/${part(id)}/summary`, asked(options));
  }

  /**
   * Mean, median and 95th percentile of the waits of each junction, seconds. Query: simulation_id,
   * intersection_id, begin, end, limit, offset.
   */
  waits(options = {}) {
    return this.call("GET", "/api/v1/analytics/wait-times", asked(options));
  }

  /**
   * Mean, median and 15th percentile of the mean speeds of each junction, km/h. Query:
   * simulation_id, intersection_id, begin, end, limit, offset.
   */
  speeds(options = {}) {
    return this.call("GET", "/api/v1/analytics/speeds", asked(options));
  }

  /**
   * Fuel and CO2 saved as reported, and what the fuel is worth at the price given. Query:
   * simulation_id, fuel_price_per_l, co2_kg_per_l, intersection_id, begin, end, limit, offset.
   */
  impact(options = {}) {
    return this.call("GET", "/api/v1/analytics/environmental-impact", asked(options));
  }

  /**
   * Two simulations, paired by junction and by second since each one's begin: differences, 95 %
   * intervals, p, effect sizes. Of two streets of this server (street:headway, or run:NUMBER), runs
   * over the same demand, paired by junction and block of simulated time. Query: baseline, ai,
   * block_s, intersection_id, begin, end, limit, offset.
   */
  comparison(options = {}) {
    return this.call("GET", "/api/v1/analytics/comparison/baseline-vs-ai", asked(options));
  }

  /**
   * Waits, throughput and counts by direction, by vehicle type or by both, of each hour, day or
   * hour of the day (UTC). Query: simulation_id, by, bucket, direction, vehicle_type,
   * intersection_id, begin, end, limit, offset.
   */
  brokenDown(options = {}) {
    return this.call("GET", "/api/v1/analytics/breakdown", asked(options));
  }

  /**
   * Emergency vehicles and overrides. Query: simulation_id, intersection_id, begin, end, limit,
   * offset.
   */
  emergencies(options = {}) {
    return this.call("GET", "/api/v1/analytics/emergency-report", asked(options));
  }

  /**
   * Means of one simulation over time: the newest `limit` buckets, oldest first. Query: bucket_s,
   * intersection_id, begin, end, limit, offset.
   */
  series(id, options = {}) {
    return this.call("GET", `/api/v1/analytics/time-series/${part(id)}`, asked(options));
  }
}

class Dashboard extends Group {
  /**
   * The newest row of each junction of each simulation: of ingested records of the last hour, and
   * of this server's streets (street:NAME); totals over all of these, and for each simulation.
   */
  live(options = {}) {
    return this.call("GET", "/api/v1/dashboard/live-metrics", asked(options));
  }

  /**
   * Each simulation's means, shortest wait first, and its paired comparison with a baseline;
   * streets of this server are compared with street:baseline unless another one is named. Query:
   * simulation_id, baseline, block_s, intersection_id, begin, end, limit, offset.
   */
  performance(options = {}) {
    return this.call("GET", "/api/v1/dashboard/performance-comparison", asked(options));
  }
}

class Charts extends Group {
  /**
   * Waits over time: the newest `limit` buckets, oldest first. Query: simulation_id, bucket_s,
   * intersection_id, begin, end, limit, offset.
   */
  trend(options = {}) {
    return this.call("GET", "/api/v1/charts/wait-time-trend", asked(options));
  }

  /**
   * Throughput beside wait, a point a record: the newest `limit`, oldest first. Query:
   * simulation_id, intersection_id, begin, end, limit, offset.
   */
  scatter(options = {}) {
    return this.call("GET", "/api/v1/charts/performance-scatter", asked(options));
  }
}

class Signals extends Group {
  /**
   * The engine's runs, newest first. Query: limit, offset.
   */
  runs(options = {}) {
    return this.call("GET", "/api/v1/runs", asked(options));
  }

  /**
   * Greens of each signal group: how many, how long, what share of the time. Query: junction,
   * begin_s, end_s.
   */
  splits(run, options = {}) {
    return this.call("GET", `/api/v1/runs/${part(run)}/splits`, asked(options));
  }

  /**
   * Arrivals on green, yellow and red, approach delay, split failures and detector health of each
   * signal group. Query: junction, begin_s, end_s.
   */
  arrivals(run, options = {}) {
    return this.call("GET", `/api/v1/runs/${part(run)}/arrivals`, asked(options));
  }

  /**
   * What ended the greens of each signal group (gap-out, max-out, force-off), and its mean split.
   * Query: junction, begin_s, end_s.
   */
  terminations(run, options = {}) {
    return this.call("GET", `/api/v1/runs/${part(run)}/terminations`, asked(options));
  }

  /**
   * Seconds from a pedestrian's call to the walk signal, for each crossing. Query: junction,
   * begin_s, end_s.
   */
  pedestrianDelay(run, options = {}) {
    return this.call("GET", `/api/v1/runs/${part(run)}/pedestrian-delay`, asked(options));
  }

  /**
   * Fuel, CO2 and cost of a run by SUMO's emission model, and what it saved beside a baseline run.
   * Query: baseline, fuel_price_per_l, begin_s, end_s.
   */
  runImpact(run, options = {}) {
    return this.call("GET", `/api/v1/runs/${part(run)}/environmental-impact`, asked(options));
  }

  /**
   * Stopped vehicles and longest waits of each junction. Query: junction, begin_s, end_s.
   */
  queues(run, options = {}) {
    return this.call("GET", `/api/v1/runs/${part(run)}/queues`, asked(options));
  }

  /**
   * Data of the Purdue coordination diagram of one signal group. Query: junction, signal_group,
   * begin_s, end_s.
   */
  coordination(run, options = {}) {
    return this.call("GET", `/api/v1/runs/${part(run)}/coordination`, asked(options));
  }

  /**
   * Events of a run, in order. Query: kind, limit, offset.
   */
  events(run, options = {}) {
    return this.call("GET", `/api/v1/runs/${part(run)}/events`, asked(options));
  }

  /**
   * Signals and detectors as Indiana high-resolution event codes (1 begin of green, 8 of yellow, 10
   * of red; 4 gap-out, 5 max-out, 6 force-off; 82 detector on, 81 off; 21 walk, 45 call of a
   * pedestrian; 300 and on the splits). The answer is streamed. Query: limit, offset.
   */
  highResolution(run, options = {}) {
    return this.call("GET", `/api/v1/runs/${part(run)}/high-resolution`, asked(options));
  }
}

class Engine extends Group {
  /**
   * All streets. `halted` is the deprecated name of `stopped`.
   */
  state(options = {}) {
    return this.call("GET", "/api/v1/engine/state", asked(options));
  }

  /**
   * One street. `halted` is the deprecated name of `stopped`.
   */
  one(name, options = {}) {
    return this.call("GET", `/api/v1/engine/streets/${part(name)}`, asked(options));
  }

  /**
   * Every 5 s of its time: mean over the junctions of the longest wait (s), vehicles, stopped ones
   * (`halted`: deprecated name of `stopped`).
   */
  history(name, options = {}) {
    return this.call("GET", `/api/v1/engine/streets/${part(name)}/history`, asked(options));
  }

  /**
   * Alerts that are open.
   */
  alerts(name, options = {}) {
    return this.call("GET", `/api/v1/engine/streets/${part(name)}/alerts`, asked(options));
  }

  /**
   * The alert rules on a street: those of the settings, then those that were set here.
   */
  alertRules(name, options = {}) {
    return this.call("GET", `/api/v1/engine/streets/${part(name)}/alert-rules`, asked(options));
  }

  /**
   * An alert rule beside those of the settings, in place of the one of that name that was set
   * before; it outlives the street's process and the server. path: of a figure of the street, as
   * `junctions.*.queue` or `loop.load`, with the street's own junctions. The order is on record.
   */
  setAlertRule(name, rule, body, options = {}) {
    return this.call("PUT", `/api/v1/engine/streets/${part(name)}/alert-rules/${part(rule)}`, asked(options, body));
  }

  /**
   * Forget an alert rule that was set here; its alerts are closed.
   */
  removeAlertRule(name, rule, options = {}) {
    return this.call("DELETE", `/api/v1/engine/streets/${part(name)}/alert-rules/${part(rule)}`, asked(options));
  }

  /**
   * One status report: the street, and its real-time loop (rates, time steps, stability, sections
   * of the profile, streams, alerts, recovery), at most a second old; null before it starts.
   */
  report(name, options = {}) {
    return this.call("GET", `/api/v1/engine/streets/${part(name)}/report`, asked(options));
  }

  /**
   * What a map is drawn from: lanes (width m, points), junctions' outlines, signal heads (x, y,
   * direction, junction number); names of the junctions, with who has green in each stage
   * (`serves`).
   */
  shapes(name, options = {}) {
    return this.call("GET", `/api/v1/engine/streets/${part(name)}/map`, asked(options));
  }

  /**
   * What can be switched to: scenarios of the catalogue, and `.sumocfg` files by their path below
   * an allowed folder (settings: `sumo.folders`).
   */
  scenarios(options = {}) {
    return this.call("GET", "/api/v1/engine/scenarios", asked(options));
  }

  /**
   * Names of the controllers that can be switched to.
   */
  controllers(options = {}) {
    return this.call("GET", "/api/v1/engine/controllers", asked(options));
  }

  /**
   * An operator's order for one junction; the safety gate finds the way there.
   */
  override(name, junction, body, options = {}) {
    return this.call("POST", `/api/v1/engine/streets/${part(name)}/junctions/${part(junction)}/override`, asked(options, body));
  }

  /**
   * Clear a junction for an emergency vehicle by hand: the stage given is shown as soon as the
   * rules allow it.
   */
  emergency(name, junction, body, options = {}) {
    return this.call("POST", `/api/v1/engine/streets/${part(name)}/emergency/${part(junction)}`, asked(options, body));
  }

  /**
   * Another controller, from the next tick on.
   */
  controller(name, body, options = {}) {
    return this.call("POST", `/api/v1/engine/streets/${part(name)}/controller`, asked(options, body));
  }

  /**
   * Overrides that are in force, by junction. The order `release` ends one before its time.
   */
  overrides(name, options = {}) {
    return this.call("GET", `/api/v1/engine/streets/${part(name)}/overrides`, asked(options));
  }

  /**
   * Another scenario, from its beginning: of the catalogue, or a `.sumocfg` of an allowed folder
   * (403 for another place). SUMO is first tried with it, beside the street that runs.
   */
  switch(name, body, options = {}) {
    return this.call("POST", `/api/v1/engine/streets/${part(name)}/scenario`, asked(options, body));
  }

  /**
   * Optimisation on or off, its cycle, the speed factor of the simulation.
   */
  optimisation(name, body, options = {}) {
    return this.call("POST", `/api/v1/engine/streets/${part(name)}/optimisation`, asked(options, body));
  }

  /**
   * The simulated time of a street stands until it is resumed: its signals keep what they show,
   * orders are taken, and what they end is counted in its own time. Refused (409) for a street that
   * is observed from outside, where the traffic does not wait.
   */
  pause(name, options = {}) {
    return this.call("POST", `/api/v1/engine/streets/${part(name)}/pause`, asked(options));
  }

  /**
   * The time of a street that was paused goes on.
   */
  resume(name, options = {}) {
    return this.call("POST", `/api/v1/engine/streets/${part(name)}/resume`, asked(options));
  }

  /**
   * A street writes a checkpoint and ends; it stays stopped until it is started, also over a start
   * of the server.
   */
  stop(name, options = {}) {
    return this.call("POST", `/api/v1/engine/streets/${part(name)}/stop`, asked(options));
  }

  /**
   * A street that was stopped goes on from where it was; one that was given up from its last
   * checkpoint, one that is finished from its beginning.
   */
  start(name, options = {}) {
    return this.call("POST", `/api/v1/engine/streets/${part(name)}/start`, asked(options));
  }

  /**
   * Orders that were placed here, newest first. The last 500 of a street are kept, until the server
   * ends; `order.accepted`, `order.applied`, `order.refused`, `order.ended` and `order.unanswered`
   * tell them on the live stream `monitoring`. Query: limit, state, kind, junction, by.
   */
  orders(name, options = {}) {
    return this.call("GET", `/api/v1/engine/streets/${part(name)}/orders`, asked(options));
  }

  /**
   * One order: whether the street has acknowledged it (`applied`) or refused it, and why.
   */
  order(name, orderId, options = {}) {
    return this.call("GET", `/api/v1/engine/streets/${part(name)}/orders/${part(orderId)}`, asked(options));
  }
}

class Models extends Group {
  /**
   * Train, tune or evaluate, as a job that `headway worker` does; one a street at a time. Who is
   * bounded to streets makes versions of names that are theirs alone, or new. Query: street.
   */
  train(body, options = {}) {
    return this.call("POST", "/api/v1/ml/train", asked(options, body));
  }

  /**
   * Jobs, the newest first, with their progress. Query: street, state, limit, cursor.
   */
  jobList(options = {}) {
    return this.call("GET", "/api/v1/ml/jobs", asked(options));
  }

  /**
   * One job: its state, progress, and what came of it.
   */
  job(id, options = {}) {
    return this.call("GET", `/api/v1/ml/jobs/${part(id)}`, asked(options));
  }

  /**
   * End a job: at once where it waits, within seconds where it goes on.
   */
  cancel(id, options = {}) {
    return this.call("DELETE", `/api/v1/ml/jobs/${part(id)}`, asked(options));
  }

  /**
   * Versions of models, the newest first: what each was made from, its metrics; `fault` says of a
   * row that was altered. Not for credentials that are bounded to streets: models are of none.
   * Query: name, kind, limit, cursor.
   */
  models(options = {}) {
    return this.call("GET", "/api/v1/ml/models", asked(options));
  }

  /**
   * One version, with what it was made of.
   */
  model(modelId, options = {}) {
    return this.call("GET", `/api/v1/ml/models/${part(modelId)}`, asked(options));
  }

  /**
   * Who decides at a junction, and who has been champion, challenger or shadow there. Query:
   * street.
   */
  status(intersectionId, options = {}) {
    return this.call("GET", `/api/v1/ml/status/${part(intersectionId)}`, asked(options));
  }

  /**
   * What would be decided at one junction for an observation: stage, seconds, confidence with its
   * factors, alternatives with their expected delay, and why. By who decides on the street now, or
   * by the model `model_id`. Nothing is remembered, and nothing reaches the street. Query:
   * model_id, street.
   */
  predict(body, options = {}) {
    return this.call("POST", "/api/v1/ml/predict", asked(options, body));
  }

  /**
   * The same for up to 1,000 observations: for each of them, in order, its prediction, or `fault`
   * with what is wrong with it. Query: model_id, street.
   */
  predictMany(body, options = {}) {
    return this.call("POST", "/api/v1/ml/predict/batch", asked(options, body));
  }

  /**
   * A model decides on a street from its next tick on: everywhere (all), in turns with the champion
   * (canary), or beside it, where nothing follows it (shadow). 409: the street refuses it, as a
   * model of another network, and nothing has changed. Query: street.
   */
  deploy(modelId, body, options = {}) {
    return this.call("POST", `/api/v1/ml/deploy/${part(modelId)}`, asked(options, body));
  }

  /**
   * A model does not decide any more, from the street's next tick on. 409: there is none. Query:
   * street.
   */
  rollback(intersectionId, body, options = {}) {
    return this.call("POST", `/api/v1/ml/rollback/${part(intersectionId)}`, asked(options, body));
  }

  /**
   * What the record says of who decides at a junction, as it was looked at last: drift of what is
   * observed and of what comes of it, calibration of the confidence, quality of the data. Query:
   * street.
   */
  metrics(intersectionId, options = {}) {
    return this.call("GET", `/api/v1/ml/metrics/${part(intersectionId)}`, asked(options));
  }

  /**
   * The same of several junctions of a street, in the order in which they are named. Query: street.
   */
  metricsOfMany(body, options = {}) {
    return this.call("POST", "/api/v1/ml/metrics", asked(options, body));
  }

  /**
   * How a junction does now, how long decisions take, and what the street saves beside the
   * network's own fixed time. Query: street.
   */
  performance(intersectionId, options = {}) {
    return this.call("GET", `/api/v1/ml/performance/${part(intersectionId)}`, asked(options));
  }

  /**
   * Whether jobs are done, and who decides on the streets that run here.
   */
  health(options = {}) {
    return this.call("GET", "/api/v1/ml/health", asked(options));
  }
}

class Cameras extends Group {
  /**
   * All cameras: state, rates, drops, latency. Why one cannot be read is for engineers.
   */
  streams(options = {}) {
    return this.call("GET", "/api/v1/cameras", asked(options));
  }

  /**
   * A new camera.
   */
  add(body, options = {}) {
    return this.call("POST", "/api/v1/cameras", asked(options, body));
  }

  /**
   * One camera, with what it sees now. Why it cannot be read is for engineers.
   */
  one(streamId, options = {}) {
    return this.call("GET", `/api/v1/cameras/${part(streamId)}`, asked(options));
  }

  /**
   * End a camera and forget it; its violations stay in the database.
   */
  remove(streamId, options = {}) {
    return this.call("DELETE", `/api/v1/cameras/${part(streamId)}`, asked(options));
  }

  /**
   * Start a camera that was stopped, or that failed.
   */
  start(streamId, options = {}) {
    return this.call("POST", `/api/v1/cameras/${part(streamId)}/start`, asked(options));
  }

  /**
   * Stop a camera; it can be started again.
   */
  stop(streamId, options = {}) {
    return this.call("POST", `/api/v1/cameras/${part(streamId)}/stop`, asked(options));
  }

  /**
   * Calibration, lines, zones and rules, as they were given; of a camera without any, its picture's
   * size.
   */
  site(streamId, options = {}) {
    return this.call("GET", `/api/v1/cameras/${part(streamId)}/site`, asked(options));
  }

  /**
   * Another calibration, other lines, zones or rules; counts start again from zero.
   */
  setSite(streamId, body, options = {}) {
    return this.call("PUT", `/api/v1/cameras/${part(streamId)}/site`, asked(options, body));
  }

  /**
   * How a camera is read and what is made of it, as in force.
   */
  settings(streamId, options = {}) {
    return this.call("GET", `/api/v1/cameras/${part(streamId)}/settings`, asked(options));
  }

  /**
   * Change those that are given, null for the settings' own; counts start again from zero.
   */
  setSettings(streamId, body, options = {}) {
    return this.call("PUT", `/api/v1/cameras/${part(streamId)}/settings`, asked(options, body));
  }

  /**
   * What the signals before this camera show, so that red-light running can be detected. Of a live
   * camera, a report that is ahead of this server's clock is refused.
   */
  signals(streamId, body, options = {}) {
    return this.call("POST", `/api/v1/cameras/${part(streamId)}/signals`, asked(options, body));
  }

  /**
   * The live picture with what was found on it, as MJPEG; `frames`: how many, 0 for ever. Query:
   * frames.
   */
  view(streamId, options = {}) {
    return this.call("GET", `/api/v1/cameras/${part(streamId)}/view`, asked(options));
  }
}

class Monitoring extends Group {
  /**
   * The machine: processor time, memory, load, disk; `headway_...`: this program's processes
   * together; `process`: this one alone. Shares are 0 to 1; null is not known. Some seconds old:
   * `processes`, each by name (server, streets, embedded database); `streets`, their performance;
   * `models`, drift and data of each; `errors_per_minute`, as logged; `open`: alerts on the program
   * and streets.
   */
  system(options = {}) {
    return this.call("GET", "/api/v1/monitoring/system", asked(options));
  }

  /**
   * Of the cameras: rates, latency, drops; of the notifier: what waits and what failed.
   */
  performance(options = {}) {
    return this.call("GET", "/api/v1/monitoring/performance", asked(options));
  }

  /**
   * Alerts on cameras and machine that are open now, the oldest first.
   */
  alerts(options = {}) {
    return this.call("GET", "/api/v1/monitoring/alerts", asked(options));
  }

  /**
   * Alerts that are open on streets, program, cameras and machine, the oldest first.
   */
  openAlerts(options = {}) {
    return this.call("GET", "/api/v1/monitoring/alerts/open", asked(options));
  }

  /**
   * Say that somebody looks after an alert; that holds until it is closed. The live stream `alerts`
   * has it as `alert.acknowledged`.
   */
  acknowledge(alert, body, options = {}) {
    return this.call("POST", `/api/v1/monitoring/alerts/open/${part(alert)}/acknowledge`, asked(options, body));
  }

  /**
   * Silences in force, the first to end first.
   */
  silences(options = {}) {
    return this.call("GET", "/api/v1/monitoring/alerts/silences", asked(options));
  }

  /**
   * No webhooks and e-mails of some alerts for a time; log, live streams and lists have them all
   * the same. What opens meanwhile and is still open at the end is sent then.
   */
  addSilence(body, options = {}) {
    return this.call("POST", "/api/v1/monitoring/alerts/silences", asked(options, body));
  }

  /**
   * A silence ends now; what it held back, and is still open, is sent.
   */
  removeSilence(silence, options = {}) {
    return this.call("DELETE", `/api/v1/monitoring/alerts/silences/${part(silence)}`, asked(options));
  }

  /**
   * Notifications that could not be delivered (dead letters), newest first. Query: limit.
   */
  undelivered(options = {}) {
    return this.call("GET", "/api/v1/monitoring/notifications/undelivered", asked(options));
  }

  /**
   * Send all dead letters anew, the oldest 1,000 at once, with the ids of their events; one that
   * fails again is a dead letter again. Those whose recipient is not in the settings any more stay.
   */
  replayAll(options = {}) {
    return this.call("POST", "/api/v1/monitoring/notifications/undelivered/replay", asked(options));
  }

  /**
   * Send one dead letter anew.
   */
  replay(letter, options = {}) {
    return this.call("POST", `/api/v1/monitoring/notifications/undelivered/${part(letter)}/replay`, asked(options));
  }

  /**
   * The figures that rules may name.
   */
  knownMetrics(options = {}) {
    return this.call("GET", "/api/v1/monitoring/alerts/metrics", asked(options));
  }

  /**
   * The alert rules: those of the settings, then those that were added here.
   */
  rules(options = {}) {
    return this.call("GET", "/api/v1/monitoring/alerts/rules", asked(options));
  }

  /**
   * A new rule, in force at once.
   */
  addRule(body, options = {}) {
    return this.call("POST", "/api/v1/monitoring/alerts/rules", asked(options, body));
  }

  /**
   * One rule.
   */
  rule(name, options = {}) {
    return this.call("GET", `/api/v1/monitoring/alerts/rules/${part(name)}`, asked(options));
  }

  /**
   * Another rule of the same name.
   */
  changeRule(name, body, options = {}) {
    return this.call("PUT", `/api/v1/monitoring/alerts/rules/${part(name)}`, asked(options, body));
  }

  /**
   * Forget a rule; its alerts are closed.
   */
  removeRule(name, options = {}) {
    return this.call("DELETE", `/api/v1/monitoring/alerts/rules/${part(name)}`, asked(options));
  }
}

class Violations extends Group {
  /**
   * Candidates for a person's review, newest first: none is a finding before its `state` is
   * `confirmed`, and no `confidence` is above 0.9. With the times of their images (`pictures`:
   * deprecated name of `images`) and the seal over all of it. Query: limit, offset, state, device,
   * rule, begin, end, hours.
   */
  newest(options = {}) {
    return this.call("GET", "/api/v1/violations", asked(options));
  }

  /**
   * Erase the violations of one device, within a time or all of them, with their images, also those
   * that were put aside. Query: device, begin, end.
   */
  erase(options = {}) {
    return this.call("DELETE", "/api/v1/violations", asked(options));
  }

  /**
   * Candidates by hour and by hour of the day (UTC). Query: device, rule, begin, end, hours.
   */
  trends(options = {}) {
    return this.call("GET", "/api/v1/violations/trends", asked(options));
  }

  /**
   * Devices by their candidates, most first. Query: limit, device, rule, begin, end, hours.
   */
  hotspots(options = {}) {
    return this.call("GET", "/api/v1/violations/hotspots", asked(options));
  }

  /**
   * Candidates in all, by rule, an hour. Query: device, rule, begin, end, hours.
   */
  summary(options = {}) {
    return this.call("GET", "/api/v1/violations/summary", asked(options));
  }

  /**
   * Confirm or dismiss a candidate after looking at its images; `open` takes that back.
   */
  review(violationId, body, options = {}) {
    return this.call("POST", `/api/v1/violations/${part(violationId)}/review`, asked(options, body));
  }

  /**
   * Whether all that a candidate states and shows (figures, rule, confidence, time, images) is as
   * it was sealed, by this service's `evidence.key`. A review is not under the seal.
   */
  seal(violationId, options = {}) {
    return this.call("GET", `/api/v1/violations/${part(violationId)}/seal`, asked(options));
  }

  /**
   * An image of a violation, JPEG.
   */
  evidence(violationId, number, options = {}) {
    return this.call("GET", `/api/v1/violations/${part(violationId)}/images/${part(number)}`, asked(options));
  }
}

/** All groups. call(method, path, asked): as `Headway.call`. */
export class Routes {
  constructor(call) {
    this.system = new System(call);
    this.admin = new Admin(call);
    this.live = new Live(call);
    this.ingestion = new Ingestion(call);
    this.records = new Records(call);
    this.observations = new Observations(call);
    this.analytics = new Analytics(call);
    this.dashboard = new Dashboard(call);
    this.charts = new Charts(call);
    this.signals = new Signals(call);
    this.engine = new Engine(call);
    this.models = new Models(call);
    this.cameras = new Cameras(call);
    this.monitoring = new Monitoring(call);
    this.violations = new Violations(call);
  }
}
