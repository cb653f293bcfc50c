#include "net/mux_connect.h"

#include "core/log.h"
#include "net/limits.h"

namespace tunnel::net {

const proto::Target& Nowhere() {
  static const proto::Target nowhere{.host = "0.0.0.0", .port = 0};
  return nowhere;
}

core::Task<void> ConnectAndAnswer(core::Reactor& reactor, TargetConnector& connector, RelaySet& relays,
                                  proto::Target target, MuxStream& stream, std::unique_ptr<ByteStream> handle,
                                  std::shared_ptr<size_t> connecting) {
  ++*connecting;
  auto connected = co_await connector.Connect(target);
  --*connecting;
  if (!connected.ok()) {
    reactor.counters().streams_failed.Add();
    spdlog::debug("target {}: {}", proto::ToString(target), MessageOf(connected.status()));
    stream.Answer(connected.status(), Nowhere());
    // Where no channel is up the answer waits in the stream.
    handle->CloseAfterSend(kMuxResumeLimit);
    co_return;
  }
  stream.Answer(absl::OkStatus(), Nowhere());
  relays.Start(std::move(handle), *std::move(connected));
}

}  // namespace tunnel::net
