#include "net/tls_stream.h"

#include <algorithm>
#include <cstring>

#include "net/limits.h"

namespace tunnel::net {
namespace {

// Plaintext is decrypted into what is left of the last block as long as a whole record may fit.
constexpr size_t kMinReadRoom = size_t{17} * 1024;
// Writes smaller than this wait for the end of the turn, so that small messages share a record and a send.
constexpr size_t kSmallWrite = size_t{4} * 1024;
constexpr size_t kRecordPlaintext = size_t{16} * 1024;

}  // namespace

TlsStream::TlsStream(core::Reactor& reactor, core::StreamSocket socket, std::unique_ptr<TlsEngine> engine)
    : reactor_(reactor),
      socket_(std::move(socket)),
      engine_(std::move(engine)),
      peer_address_(socket_.peer_address()),
      peer_(peer_address_.ToString()) {}

TlsStream::TlsStream(core::Reactor& reactor, core::StreamSocket socket, std::unique_ptr<TlsEngine> engine,
                     std::string_view received)
    : TlsStream(reactor, std::move(socket), std::move(engine)) {
  phase_ = Phase::kOpen;
  socket_.SetHandler(this);
  socket_.PauseReceive();
  if (received.empty()) return;
  engine_->FeedCiphertext({reinterpret_cast<const uint8_t*>(received.data()), received.size()});
  engine_->KeepInput();
}

void TlsStream::Release(Released released) {
  TUNNEL_CHECK(phase_ == Phase::kOpen && handler_ == nullptr);
  SealPending();
  FlushOutput();
  socket_.Release(
      [released = std::move(released), engine = std::move(engine_)](int descriptor, std::string received) mutable {
        released(descriptor, std::move(engine), std::move(received));
      });
}

TlsStream::~TlsStream() {
  if (destroyed_ != nullptr) *destroyed_ = true;
  socket_.Close();
}

core::Task<absl::Status> TlsStream::Handshake() {
  socket_.SetHandler(this);
  StepHandshake();
  while (phase_ == Phase::kHandshake) {
    handshake_step_.Reset();
    const absl::Status waited = co_await handshake_step_.Wait();
    if (!waited.ok()) co_return waited;
  }
  co_return handshake_status_;
}

core::Task<absl::Status> TlsStream::Confirmed() {
  while (!engine_->confirmed()) {
    if (over_.has_value()) co_return *over_;
    if (peer_finished_) co_return Unavailable("the peer ended TLS during the handshake");
    progress_.Reset();
    const absl::Status waited = co_await progress_.Wait();
    if (!waited.ok()) co_return waited;
  }
  co_return absl::OkStatus();
}

void TlsStream::StepHandshake() {
  const TlsEngine::HandshakeState state = engine_->Handshake();
  FlushOutput();
  if (state == TlsEngine::HandshakeState::kWant) return;
  if (state == TlsEngine::HandshakeState::kFailed) {
    phase_ = Phase::kFailed;
    handshake_status_ = engine_->failure().status;
  } else {
    phase_ = Phase::kOpen;
  }
  // What came behind the handshake waits for the handler.
  engine_->KeepInput();
  socket_.PauseReceive();
  handshake_step_.Set();
}

void TlsStream::OnReceive(core::Slice data) {
  // What comes behind a close_notify is ignored (RFC 8446 section 6.1), and must not pile up unread.
  if (phase_ == Phase::kFailed || over_.has_value() || peer_finished_) return;
  engine_->FeedCiphertext(data.bytes());
  if (phase_ == Phase::kHandshake) {
    StepHandshake();
  } else if (DeliverPlaintext()) {
    engine_->KeepInput();
  }
}

bool TlsStream::DeliverPlaintext() {
  bool destroyed = false;
  destroyed_ = &destroyed;
  while (!paused_ && handler_ != nullptr && !peer_finished_ && !over_.has_value()) {
    if (read_room_.size() < kMinReadRoom) read_room_ = reactor_.buffers().Allocate(core::BufferPool::kMaxBlockBytes);
    const TlsEngine::ReadResult result = engine_->ReadPlaintext(read_room_.bytes());
    if (result.state == TlsEngine::ReadState::kNeedMore) break;
    if (result.state == TlsEngine::ReadState::kData) {
      core::Slice plaintext = read_room_.Share(0, result.bytes);
      read_room_.RemovePrefix(result.bytes);
      handler_->OnData(std::move(plaintext));
      if (destroyed) return false;
      continue;
    }
    if (result.state == TlsEngine::ReadState::kClosed) {
      peer_finished_ = true;
    } else {
      over_ = engine_->failure().status;
      socket_.PauseReceive();
    }
  }
  destroyed_ = nullptr;
  progress_.Set();
  // An idle connection holds no block.
  if (engine_->UnreadInput().empty()) read_room_.Reset();
  reactor_.ScheduleAttention(*this);
  return true;
}

void TlsStream::Attend() {
  if (phase_ == Phase::kOpen) {
    SealPending();
    FlushOutput();
    if (full_ && handler_ != nullptr && !TellDrained()) return;
    const bool readable = engine_->HasMore() || socket_ended_;
    if (readable && !paused_ && handler_ != nullptr && !peer_finished_ && !over_.has_value()) {
      if (!DeliverPlaintext()) return;
    }
  }
  DeliverEnd();
}

void TlsStream::DeliverEnd() {
  if (over_.has_value()) progress_.Set();
  if (handler_ == nullptr) return;
  if (over_.has_value()) {
    std::exchange(handler_, nullptr)->OnDead(*over_);
    return;
  }
  if (peer_finished_ && !paused_ && !end_delivered_) {
    end_delivered_ = true;
    handler_->OnEnd();
  }
}

void TlsStream::OnReceiveEnd() {
  engine_->FeedEnd();
  socket_ended_ = true;
  if (phase_ == Phase::kHandshake) {
    StepHandshake();
    return;
  }
  // Without a close_notify before it this is a truncation (RFC 8446 section 6.1): the engine says so once what came
  // before is read.
  reactor_.ScheduleAttention(*this);
}

bool TlsStream::TellDrained() {
  if (queued_bytes() > core::kSendLowWaterBytes) return true;
  full_ = false;
  bool destroyed = false;
  destroyed_ = &destroyed;
  handler_->OnDrained();
  if (!destroyed) destroyed_ = nullptr;
  return !destroyed;
}

void TlsStream::OnSendDrained() {
  // What is not with the socket yet counts too; Attend() looks again once it is.
  if (full_ && handler_ != nullptr) (void)TellDrained();
}

void TlsStream::OnSocketError(core::IoError error) { End(core::ToStatus(error, peer_)); }

void TlsStream::End(absl::Status reason) {
  if (phase_ == Phase::kHandshake) {
    phase_ = Phase::kFailed;
    handshake_status_ = std::move(reason);
    handshake_step_.Set();
    return;
  }
  if (!over_.has_value()) over_ = std::move(reason);
  DeliverEnd();
}

void TlsStream::SetHandler(ByteStream::Handler* handler) {
  handler_ = handler;
  paused_ = true;
  if (handler == nullptr) {
    socket_.PauseReceive();
  } else {
    ResumeReceive();
  }
}

void TlsStream::PauseReceive() {
  if (paused_) return;
  paused_ = true;
  socket_.PauseReceive();
}

void TlsStream::ResumeReceive() {
  if (!paused_) return;
  paused_ = false;
  socket_.ResumeReceive();
  reactor_.ScheduleAttention(*this);
}

size_t TlsStream::queued_bytes() const {
  return socket_.queued_bytes() + engine_->PendingOutput().size() + unsent_.size();
}

void TlsStream::Send(core::Slice data) {
  if (phase_ != Phase::kOpen || over_.has_value()) return;
  reactor_.ScheduleAttention(*this);
  Take(std::move(data));
  full_ |= queued_bytes() > core::kSendLowWaterBytes;
}

void TlsStream::Take(core::Slice data) {
  if (data.size() < kSmallWrite) {
    if (unsent_.size() + data.size() > kRecordPlaintext) SealPending();
    if (unsent_.empty()) {
      unsent_ = reactor_.buffers().Allocate(kRecordPlaintext);
      unsent_.Truncate(0);
    }
    unsent_.Append(data.bytes());
    return;
  }
  SealPending();
  if (absl::Status written = engine_->WritePlaintext(data.bytes()); !written.ok()) over_ = std::move(written);
}

void TlsStream::SealPending() {
  if (unsent_.empty()) return;
  absl::Status written = engine_->WritePlaintext(unsent_.bytes());
  unsent_.Reset();
  if (!written.ok() && !over_.has_value()) {
    over_ = std::move(written);
    reactor_.ScheduleAttention(*this);
  }
}

void TlsStream::FlushOutput() {
  for (std::span<const uint8_t> output = engine_->PendingOutput(); !output.empty();) {
    const size_t size = std::min(output.size(), core::BufferPool::kMaxBlockBytes);
    socket_.Send(reactor_.buffers().Copy(output.first(size)));
    engine_->ConsumeOutput(size);
    output = engine_->PendingOutput();
  }
}

void TlsStream::FinishSend() {
  if (phase_ != Phase::kOpen || over_.has_value()) return;
  SealPending();
  engine_->Shutdown();
  FlushOutput();
  socket_.FinishSend();
}

void TlsStream::CloseAfterSend(core::Duration limit) {
  handler_ = nullptr;
  if (phase_ == Phase::kOpen && !over_.has_value()) {
    SealPending();
    engine_->Shutdown();
  }
  FlushOutput();
  socket_.CloseAfterSend(limit);
}

void TlsStream::Abort() {
  handler_ = nullptr;
  unsent_.Reset();
  socket_.Reset();
}

}  // namespace tunnel::net
