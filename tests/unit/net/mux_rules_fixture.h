// One end of mux/2 against a test that says whatever it likes: a session on channels whose other end is the test.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "message_peer.h"
#include "mux_fixture.h"
#include "mux_words.h"

namespace tunnel::net {

class MuxRulesTest : public MuxPairTest {
 protected:
  struct Channel {
    std::unique_ptr<WebSocket> socket;
    std::unique_ptr<MuxChannel> mux;
    std::unique_ptr<MessagePeer> peer;
    std::optional<absl::Status> down;
    ~Channel() { mux.reset(); }
  };

  // `role` is the test's own.
  explicit MuxRulesTest(proto::Role role) : role_(role) {}

  // The session that is tested.
  [[nodiscard]] virtual MuxSession& tested() = 0;

  // A channel, whose first PING is not heard any more.
  Channel& AddChannel(uint64_t epoch = 7) {
    auto channel = std::make_unique<Channel>();
    Channel& made = *channel;
    auto [near, far] = MemoryStream::Pair(reactor());
    made.socket = std::make_unique<WebSocket>(reactor(), std::move(near),
                                              WebSocket::Options{.role = tested().role(), .keep_alive = false});
    made.mux = std::make_unique<MuxChannel>(reactor(), *made.socket, tested(),
                                            MuxChannel::Options{.epoch = epoch, .peer_window = kMuxFirstWindowBytes},
                                            [&made](const absl::Status& why) { made.down = why; });
    made.peer = std::make_unique<MessagePeer>(reactor(), std::move(far), role_);
    made.mux->Start();
    made.socket->Start(made.mux.get(), {});
    channels_.push_back(std::move(channel));
    Settle();
    return made;
  }
  void Say(const proto::MuxFrame& frame, std::string_view payload = {}, size_t channel = 0) {
    SayBytes(Encoded(role_, frame, payload), channel);
  }
  void SayBytes(const std::string& bytes, size_t channel = 0) {
    channels_[channel]->peer->SayBinary(bytes);
    Settle();
  }
  // What was said since the last call, but for PINGs.
  std::vector<std::string> Heard(size_t channel = 0) {
    Settle();
    std::vector<std::string> heard;
    for (const std::string& message : channels_[channel]->peer->Take()) {
      const std::string words = Words(role_, std::string_view(message).substr(2));
      if (words != "PING 0") heard.push_back(words);
    }
    return heard;
  }

  const proto::Role role_;
  MuxBudget tested_budget_;
  std::vector<std::unique_ptr<Channel>> channels_;
};

}  // namespace tunnel::net
