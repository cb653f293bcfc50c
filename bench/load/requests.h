// Requests that are answered with their own bytes: one connection each, or all on one connection.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/load/sockets.h"

namespace tunnel::bench {

struct RequestOptions {
  Endpoint to;
  uint16_t socks_target_port = 0;  // not 0: `to` is a SOCKS5 proxy, asked to connect to 127.0.0.1 on this port
  bool optimistic = false;         // the first request goes right behind CONNECT, before the proxy's reply
  uint32_t stalled = 0;            // connections beside the workers' that are sent to without end, and not read from
  uint32_t workers = 1;            // each has one request under way: a closed loop
  uint32_t size = 1024;            // bytes of a request, and of its answer
  bool reuse = false;              // all requests of a worker on one connection
  uint32_t interval_us = 0;        // a worker's pause before the next request
  uint32_t duration_ms = 1000;
  uint32_t grace_ms = 10'000;  // how long what is under way may take afterwards
};

struct RequestResult {
  // Of every request begun within the duration, unsorted: from connect(), or with `reuse` from the request's first
  // byte, to the answer's last byte.
  std::vector<int64_t> latencies_ns;
  // Where there is a proxy: from CONNECT to its reply, and to the answer's last byte.
  std::vector<int64_t> replies_ns;
  std::vector<int64_t> opens_ns;
  double elapsed_seconds = 0;
  std::string congestion_control;
};

// Throws when a connection fails, an answer is not the request, or the time is up.
RequestResult RunRequests(const RequestOptions& options);

}  // namespace tunnel::bench
