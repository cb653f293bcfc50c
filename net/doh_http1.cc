#include "net/doh_http1.h"

#include <string>
#include <utility>

#include "net/byte_reader.h"
#include "proto/http1.h"
#include "proto/http1_builder.h"
#include "proto/http1_chunked.h"

namespace tunnel::net {
namespace {

using core::Slice;

// Takes the bytes of one response as they come.
class ResponseReader {
 public:
  // Takes what was received. False once the response is whole; what follows it is ignored.
  [[nodiscard]] absl::StatusOr<bool> Feed(std::string_view data) {
    received_bytes_ += data.size();
    if (received_bytes_ > kDohMaxBodyBytes + kDohMaxOverheadBytes)
      return ProtocolError("more bytes than an answer has");
    if (in_body_) return FeedBody(data);
    head_.append(data);
    while (true) {
      proto::ResponseHead head;
      const proto::HeadResult result = proto::ParseResponseHead(head_, "GET", head, scanned_);
      if (result.kind == proto::HeadResult::Kind::kError) return ProtocolError("bad HTTP head: {}", result.reason);
      if (result.kind == proto::HeadResult::Kind::kNeedMore) {
        scanned_ = head_.size();
        return true;
      }
      scanned_ = 0;
      if (head.status / 100 == 1) {
        head_.erase(0, result.head_bytes);
        continue;
      }
      TUNNEL_RETURN_IF_ERROR(CheckDohHead(head.status, head.fields.Find("content-type").value_or("")));
      framing_ = head.framing;
      if (framing_.kind == proto::BodyFraming::Kind::kLength && framing_.length > kDohMaxBodyBytes) {
        return ProtocolError("an answer of {} bytes", framing_.length);
      }
      in_body_ = true;
      const std::string rest = head_.substr(result.head_bytes);
      return FeedBody(rest);
    }
  }
  // The stream has ended.
  [[nodiscard]] absl::Status End() const {
    if (in_body_ && framing_.kind == proto::BodyFraming::Kind::kUntilClose) return absl::OkStatus();
    return Unavailable("the connection ended before the answer did");
  }
  [[nodiscard]] std::vector<uint8_t> TakeBody() { return std::move(body_); }

 private:
  absl::StatusOr<bool> FeedBody(std::string_view data) {
    switch (framing_.kind) {
      case proto::BodyFraming::Kind::kNone:
        return false;
      case proto::BodyFraming::Kind::kLength:
        TUNNEL_RETURN_IF_ERROR(Append(data.substr(0, framing_.length - body_.size())));
        return body_.size() < framing_.length;
      case proto::BodyFraming::Kind::kUntilClose:
        TUNNEL_RETURN_IF_ERROR(Append(data));
        return true;
      case proto::BodyFraming::Kind::kChunked:
        break;
    }
    while (true) {
      const proto::ChunkedDecoder::Step step = chunks_.Next(data);
      switch (step.kind) {
        case proto::ChunkedDecoder::Step::Kind::kNeedMore:
          return true;
        case proto::ChunkedDecoder::Step::Kind::kDone:
          return false;
        case proto::ChunkedDecoder::Step::Kind::kError:
          return ProtocolError("bad chunk: {}", step.reason);
        case proto::ChunkedDecoder::Step::Kind::kData:
          TUNNEL_RETURN_IF_ERROR(Append(step.data));
          data.remove_prefix(step.consumed);
          break;
      }
    }
  }
  absl::Status Append(std::string_view data) {
    if (data.size() > kDohMaxBodyBytes - body_.size()) {
      return ProtocolError("an answer of over {} bytes", kDohMaxBodyBytes);
    }
    body_.insert(body_.end(), data.begin(), data.end());
    return absl::OkStatus();
  }

  size_t received_bytes_ = 0;
  std::string head_;
  size_t scanned_ = 0;
  bool in_body_ = false;
  proto::BodyFraming framing_;
  proto::ChunkedDecoder chunks_;
  std::vector<uint8_t> body_;
};

core::Task<absl::StatusOr<std::vector<uint8_t>>> Fetch(ByteStream* stream, core::BufferPool* buffers,
                                                       DohRequest request) {
  // An aged answer would have to have its TTLs lowered (RFC 8484 section 5.1): a fresh one is asked for instead.
  proto::HttpHeadBuilder builder = proto::HttpHeadBuilder::Request(request.body.empty() ? "GET" : "POST", request.path);
  builder.Add("Host", request.authority)
      .Add("Accept", kDnsMediaType)
      .Add("Cache-Control", "no-cache")
      .Add("Connection", "close");
  if (!request.body.empty()) {
    builder.Add("Content-Type", kDnsMediaType).Add("Content-Length", std::to_string(request.body.size()));
  }
  const absl::StatusOr<std::string> head = builder.Finish();
  if (!head.ok()) co_return head.status();
  ByteReader reader(*stream);
  stream->Send(buffers->Copy(*head + request.body));
  ResponseReader response;
  while (true) {
    absl::StatusOr<Slice> data = co_await reader.Read();
    if (!data.ok()) co_return data.status();
    if (data->empty()) {
      if (absl::Status ended = response.End(); !ended.ok()) co_return ended;
      break;
    }
    const absl::StatusOr<bool> more = response.Feed(data->text());
    if (!more.ok()) co_return more.status();
    if (!*more) break;
  }
  co_return response.TakeBody();
}

}  // namespace

core::Task<absl::StatusOr<std::vector<uint8_t>>> FetchHttp1(ByteStream& stream, core::BufferPool& buffers,
                                                            DohRequest request) {
  return Fetch(&stream, &buffers, std::move(request));
}

}  // namespace tunnel::net
