// One stream of a mux/2 session: what it keeps, what it is bound to, and the end that an application's relay holds.
//
// A stream belongs to its session, which finds it by its id, until the protocol is done with it; and to its handle,
// which who opened or took it owns, until that is destroyed. Whichever is later deletes it, never from inside a call on
// it. Owner core only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/reactor.h"
#include "net/byte_stream.h"
#include "net/mux_receive_window.h"
#include "net/mux_send_buffer.h"
#include "proto/mux_frame.h"

namespace tunnel::net {

class MuxChannel;
class MuxSession;
class MuxHandle;

struct MuxBoundList;   // streams bound to a channel, or to none
struct MuxSendList;    // streams that have something to send on their channel
struct MuxCreditList;  // streams that owe the peer news of what was consumed
struct MuxLingerList;  // streams that nobody holds any more and whose last bytes are on their way

class MuxStream final : public core::ListLink<MuxBoundList>,
                        public core::ListLink<MuxSendList>,
                        public core::ListLink<MuxCreditList>,
                        public core::ListLink<MuxLingerList> {
 public:
  // What became of an OPEN, and datagrams: the end of those that are no handle.
  class Watcher {
   public:
    // OPENED came, or what took its place. `status` is Ok, the peer's refusal, or how the stream was lost.
    virtual void OnOpened(const absl::Status& status) = 0;
    // kUdp: a datagram came over the channel, which names `address`, valid during the call: the client's target, or who
    // sent it.
    virtual void OnCarried(const proto::Target& address, core::Slice payload) = 0;
    // The stream is over after OnOpened() said Ok. The last call.
    virtual void OnGone(const absl::Status& reason) = 0;

   protected:
    ~Watcher() = default;
  };

  // A stream that we open (`ours`) or that the peer opened. `peer_limit` is how far the peer lets us send at first.
  MuxStream(MuxSession& session, uint32_t id, proto::MuxKind kind, bool ours, proto::Target address,
            uint64_t peer_limit);
  ~MuxStream();

  [[nodiscard]] uint32_t id() const { return id_; }
  [[nodiscard]] proto::MuxKind kind() const { return kind_; }
  [[nodiscard]] const proto::Target& address() const { return address_; }
  [[nodiscard]] MuxChannel* channel() const { return channel_; }
  [[nodiscard]] uint32_t generation() const { return generation_; }
  [[nodiscard]] uint64_t epoch() const { return epoch_; }
  [[nodiscard]] core::TimePoint unbound_since() const { return unbound_since_; }
  [[nodiscard]] core::TimePoint linger_until() const { return linger_until_; }
  // The session forgot it, or is about to: no frame comes or goes any more.
  [[nodiscard]] bool over() const { return over_.has_value(); }
  [[nodiscard]] bool held() const { return handle_ != nullptr; }
  // Ours: where the peer has bound something for it; once OPENED came.
  [[nodiscard]] const proto::Target& bound() const { return bound_; }

  // --- for who opens or takes it ---
  // The end that carries bytes; of a stream of datagrams, what keeps it. Once, and at once.
  [[nodiscard]] std::unique_ptr<ByteStream> TakeHandle();
  // nullptr: nobody is told. Must outlive the stream or be taken away.
  void SetWatcher(Watcher* watcher) { watcher_ = watcher; }
  // Acceptor: answers the OPEN. After a failure the stream is over.
  void Answer(const absl::Status& status, const proto::Target& bound);
  // kUdp: sends a datagram, or drops it.
  void SendDatagram(const proto::Target& to, core::Slice payload);
  // Ends it now; the peer is told.
  void Reset(proto::MuxResetCode code, std::string_view reason);

  // --- for its session ---
  // Opens it on `channel`; `first` are its first bytes.
  void Open(MuxChannel& channel, core::Slice first);
  // Server, of a stream of its own: neither OPENED nor RESUME came, so that the peer may never have heard of it.
  [[nodiscard]] bool unanswered() const { return ours_ && !opened_ && generation_ == 0; }
  // Such a stream without a channel: says everything again on `channel`.
  void OpenAgain(MuxChannel& channel);
  // Client: goes on on `channel`, or is over when it cannot be moved any more.
  void MoveTo(MuxChannel& channel);
  // Server: binds it to where an OPEN came, or a RESUME or repeated OPEN whose generation is above its own.
  void Bind(MuxChannel& channel, uint32_t generation);
  void OnResume(const proto::MuxFrame& frame);
  void OnOpenedAgain();
  void OnResumed(const proto::MuxFrame& frame);
  void OnOpened(const proto::MuxFrame& frame);
  void OnCredit(const proto::MuxFrame& frame);
  void OnPeerReset(const proto::MuxFrame& frame);
  void OnDataBegins();
  void OnPayload(core::Slice piece);
  void OnFin();
  void OnDatagram(const proto::Target& address, core::Slice payload);
  // Its channel is gone, or it is to be moved off it.
  void Unbind();
  // Nothing on the wire any more: tells who holds it. The session forgets it.
  void End(absl::Status reason);
  // Sends CREDIT.
  void SendCredit();

  // --- for its channel ---
  // Frames that are for this stream count on this channel.
  [[nodiscard]] bool Takes(const MuxChannel& channel) const { return channel_ == &channel && !fenced_ && !over(); }
  [[nodiscard]] bool sendable() const;
  // Sends up to kMuxQuantumBytes; true when it could send more.
  bool SendTurn();

 private:
  friend class MuxHandle;
  // --- for its handle ---
  void SetHandler(ByteStream::Handler* handler);
  void PauseReceive() { paused_ = true; }
  void ResumeReceive();
  void Send(core::Slice data);
  [[nodiscard]] bool writable() const;
  void FinishSend();
  void CloseAfterSend(core::Duration limit);
  void LetGo();  // the handle is being destroyed

  void Abort();
  void BindTo(MuxChannel& channel);
  // What the peer has not received is to be sent again. False, and nothing has changed, when it cannot say so.
  [[nodiscard]] bool Rewind(uint64_t received, bool fin);
  void SendAnswer();
  void SendResumed();
  // Says again what was consumed, since the channel that is gone may have lost it.
  void RepeatCredit();
  void SendSelf(proto::MuxFrame frame, std::span<const uint8_t> payload = {});
  void Schedule();
  // Bytes that an application has taken.
  void Consumed(size_t bytes);
  void OweCredit();
  void Deliver();
  void DeliverEnd();
  void TellDrained();
  // Forgets the stream when both directions are done.
  void EndIfDone();
  // What send_ keeps was `kept_before`: tells the budget.
  void AccountFor(size_t kept_before);
  void Violate(std::string_view reason);

  MuxSession& session_;  // not once over
  core::Reactor& reactor_;
  const uint32_t id_;
  const proto::MuxKind kind_;
  const bool ours_;
  bool opened_ = false;  // ours: OPENED came. The peer's: we have answered with success
  bool fenced_ = false;  // client: RESUMED of this generation has not come yet
  bool paused_ = true;
  bool full_ = false;  // the handler saw writable() false
  bool fin_received_ = false;
  bool fin_delivered_ = false;
  bool lingering_ = false;  // its handle is gone; what comes is dropped
  uint32_t generation_ = 0;
  uint64_t epoch_ = 0;
  MuxChannel* channel_ = nullptr;
  core::TimePoint unbound_since_{};
  core::TimePoint linger_until_ = core::kNever;
  uint64_t lingered_bytes_ = 0;
  const proto::Target address_;
  std::optional<absl::Status> answer_;  // the peer's: what Answer() said
  proto::Target bound_;                 // what it said, or OPENED of ours did
  uint64_t peer_limit_;
  MuxSendBuffer send_;
  MuxReceiveWindow window_;
  SliceQueue parked_;
  std::optional<absl::Status> over_;
  bool over_told_ = false;
  Watcher* watcher_ = nullptr;
  MuxHandle* handle_ = nullptr;
  ByteStream::Handler* handler_ = nullptr;
  struct Deliverer final : core::Attention {
    explicit Deliverer(MuxStream& s) : stream(s) {}
    void Attend() override { stream.Deliver(); }
    MuxStream& stream;
  } deliverer_{*this};
};

}  // namespace tunnel::net
