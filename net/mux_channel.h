// One WebSocket that carries a mux/2 session, or a part of it: frames in and out, whose turn it is, how long it takes.
#pragma once

#include <absl/functional/any_invocable.h>

#include <deque>

#include "net/carrier.h"
#include "net/datagram_assembler.h"
#include "net/mux_session.h"
#include "proto/mux_decoder.h"

namespace tunnel::net {

// Attached to its session from Start() until it is down. Control goes out at once; streams with something to send take
// turns of kMuxQuantumBytes, as long as the socket's queue is short (kMuxChannelQueueBytes): bytes may be cut anywhere,
// so that every stream gets the same share, and one that has little waits for one round at most.
class MuxChannel final : public Carrier, core::Attention {
 public:
  using Down = absl::AnyInvocable<void(const absl::Status& reason)>;
  struct Options {
    uint64_t epoch = 0;        // of the server's session: streams move only between channels of the same
    uint64_t peer_window = 0;  // how far we may send on a stream before its peer says more
  };
  // `socket` and `session` must outlive the channel. `down` is called once, last, when the channel is over; its streams
  // have been unbound before. The channel may be destroyed from it.
  MuxChannel(core::Reactor& reactor, WebSocket& socket, MuxSession& session, const Options& options, Down down);
  ~MuxChannel() override;

  // Attaches to the session; before the socket is started.
  void Start();

  [[nodiscard]] std::string_view protocol() const override { return "mux/2"; }
  [[nodiscard]] size_t streams() const override { return bound_count_; }
  [[nodiscard]] bool up() const { return up_; }
  // New streams may be opened here.
  [[nodiscard]] bool usable() const { return up_ && !going_away_; }
  [[nodiscard]] uint64_t epoch() const { return options_.epoch; }
  [[nodiscard]] uint64_t peer_window() const { return options_.peer_window; }
  [[nodiscard]] WebSocket& socket() const { return socket_; }
  // Smoothed; zero before the first sample.
  [[nodiscard]] core::Duration round_trip() const { return smoothed_; }
  [[nodiscard]] bool measured() const { return smoothed_ != core::Duration::zero(); }
  // How long what is sent now takes to arrive, as far as this side can tell.
  [[nodiscard]] core::Duration ExpectedDelay() const;

  // Sends a frame now: fields, and what is its bulk payload.
  void Send(const proto::MuxFrame& frame, std::span<const uint8_t> payload = {});
  // Says that there is no such stream here, or cannot be.
  void SendReset(uint32_t stream, proto::MuxResetCode code);
  void SendData(uint32_t stream, bool fin, std::span<const uint8_t> payload);
  // Sends a DATAGRAM now or soon, or drops it or an older one.
  void SendDatagram(const proto::MuxFrame& frame, std::span<const uint8_t> payload);
  // `stream`, bound to this channel, has something to send.
  void Schedule(MuxStream& stream);
  void Bind(MuxStream& stream);
  void Unbind(MuxStream& stream);
  // Says that nothing is to be opened here any more.
  void GoAway(proto::MuxGoAwayCode code, std::string_view reason);
  // The peer has said so, or we have: what is bound is to be moved.
  void SetGoingAway() { going_away_ = true; }
  // Says goodbye as soon as nothing is bound to it; GoAway() was called.
  void CloseWhenLeft();
  // Sends a PING, unless one is on its way.
  void Probe();
  // Takes the first stream that is bound; nullptr when there is none.
  [[nodiscard]] MuxStream* FirstBound() { return bound_.empty() ? nullptr : &bound_.front(); }
  // A stream is gone: nothing that is being read goes to it.
  void ForgetCurrent(const MuxStream& stream) {
    if (current_ == &stream) current_ = nullptr;
  }

 private:
  void OnMessageBegin(proto::Opcode opcode) override;
  void OnMessageData(core::Slice piece) override;
  void OnMessageEnd() override;
  void OnWritable() override { Pump(); }
  void OnDown(const absl::Status& reason) override;
  void Attend() override;

  void NextEvents(const core::Slice* piece);
  void OnFrame(const proto::MuxFrame& frame);
  void OnStreamFrame(const proto::MuxFrame& frame);
  void OnFrameEnd();
  void OnPong(std::span<const uint8_t> opaque);
  void SendPing();
  void OnPingTimer();
  // Something was sent that the peer answers sooner or later.
  void Watch();
  // Something came.
  void OnSign();
  void OnWatchTimer();
  [[nodiscard]] core::Duration SilenceLimit() const;
  [[nodiscard]] core::Duration TimeToSendQueue() const;
  void Pump();
  // What waits is lost with the channel.
  void DropDatagrams();
  void MeasureRate();
  // Gives the channel up: its streams go on elsewhere.
  void Break(uint16_t close_code, std::string_view reason);
  // Likewise, of a channel that does not answer.
  void GiveUp(const absl::Status& reason);

  core::Reactor& reactor_;
  WebSocket& socket_;
  MuxSession& session_;
  const Options options_;
  Down down_;
  bool up_ = false;
  bool going_away_ = false;
  bool leaving_ = false;     // it is closed when nothing is bound to it any more
  bool overloaded_ = false;  // too much is queued for a peer that does not read
  proto::MuxDecoder decoder_;
  MuxStream* current_ = nullptr;  // where the payload of the frame that is being read goes
  DatagramAssembler assembler_;
  core::IntrusiveList<MuxStream, MuxBoundList> bound_;
  size_t bound_count_ = 0;
  core::IntrusiveList<MuxStream, MuxSendList> sending_;
  std::deque<core::Slice> datagrams_;  // whole frames
  size_t datagram_bytes_ = 0;

  // --- round trip and signs of life ---
  core::Duration smoothed_{};
  core::Duration variation_{};
  core::TimePoint last_received_;
  uint64_t received_ = 0;            // how often something came
  bool waiting_ = false;             // something was sent that is answered, and nothing has come since
  core::TimePoint waiting_since_{};  // ...
  bool unproven_ = false;            // no PING followed the last OPEN or RESUME
  bool probed_ = false;              // nor behind a PING, sent because of that
  core::TimePoint probed_at_{};
  uint64_t others_before_ = 0;  // how often something had come on other channels then
  core::TimePoint ping_sent_;
  uint64_t ping_number_ = 0;
  bool ping_open_ = false;
  unsigned missed_pongs_ = 0;
  core::Timer ping_timer_;
  core::Timer watch_timer_;

  // --- delivery rate ---
  uint64_t sent_bytes_ = 0;
  double bytes_per_second_ = 0;  // 0: not known
  core::TimePoint rate_since_{};
  uint64_t rate_from_ = 0;
  bool rate_running_ = false;
};

}  // namespace tunnel::net
