#include "net/http_reader.h"

namespace tunnel::net {

core::Task<absl::Status> HttpReader::ReadMore() {
  auto data = co_await reader_.Read();
  if (!data.ok()) co_return data.status();
  if (data->empty()) co_return Unavailable("the connection ended");
  text_ += data->text();
  co_return absl::OkStatus();
}

void HttpReader::Forget() { text_.erase(0, std::exchange(used_, 0)); }

core::Task<bool> HttpReader::ReadRequest(proto::RequestHead& head) {
  Forget();
  error_ = {};
  size_t scanned = 0;
  for (;;) {
    const proto::HeadResult result = proto::ParseRequestHead(text_, head, scanned);
    if (result.kind == proto::HeadResult::Kind::kDone) {
      used_ = result.head_bytes;
      co_return true;
    }
    if (result.kind == proto::HeadResult::Kind::kError) {
      error_ = {.status = result.status, .reason = std::string(result.reason)};
      co_return false;
    }
    scanned = text_.size();
    const absl::Status more = co_await ReadMore();
    if (!more.ok()) {
      error_.reason = MessageOf(more);
      co_return false;
    }
  }
}

core::Task<absl::Status> HttpReader::ReadResponse(std::string method, proto::ResponseHead& head) {
  Forget();
  size_t scanned = 0;
  for (;;) {
    const proto::HeadResult result = proto::ParseResponseHead(text_, method, head, scanned);
    if (result.kind == proto::HeadResult::Kind::kDone) {
      used_ = result.head_bytes;
      co_return absl::OkStatus();
    }
    if (result.kind == proto::HeadResult::Kind::kError) {
      co_return ProtocolError("the answer is not HTTP/1.1 as it must be: {}", result.reason);
    }
    scanned = text_.size();
    absl::Status more = co_await ReadMore();
    if (!more.ok()) co_return more;
  }
}

core::Task<absl::StatusOr<std::string>> HttpReader::ReadBody(size_t bytes) {
  while (text_.size() - used_ < bytes) {
    const absl::Status more = co_await ReadMore();
    if (!more.ok()) co_return more;
  }
  std::string body = text_.substr(used_, bytes);
  used_ += bytes;
  co_return std::move(body);
}

}  // namespace tunnel::net
