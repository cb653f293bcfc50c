// Reads HTTP/1.1 heads from a ByteStream for sequences: upgrades, DoH, CONNECT.
#pragma once

#include <string>

#include "net/byte_reader.h"
#include "proto/http1.h"

namespace tunnel::net {

// Why a request could not be read, as the status to answer with; 0 when there is nobody to answer.
struct RequestError {
  int status = 0;
  std::string reason;
};

class HttpReader {
 public:
  explicit HttpReader(ByteReader& reader) : reader_(reader) {}

  // Reads the next request's head. True: `head` is valid until the next call here. False: error() says why; its status
  // is 0 at the end of the stream, on its death and on an interruption.
  [[nodiscard]] core::Task<bool> ReadRequest(proto::RequestHead& head);
  // Reads the response to a `method` request.
  [[nodiscard]] core::Task<absl::Status> ReadResponse(std::string method, proto::ResponseHead& head);
  // Reads `bytes` of body behind the head.
  [[nodiscard]] core::Task<absl::StatusOr<std::string>> ReadBody(size_t bytes);

  [[nodiscard]] const RequestError& error() const { return error_; }
  // What was received behind what was read: the next protocol's.
  [[nodiscard]] std::string TakeRest() { return std::exchange(text_, {}).substr(std::exchange(used_, 0)); }

 private:
  // Appends what comes; false at the end of the stream or on an error.
  core::Task<absl::Status> ReadMore();
  void Forget();

  ByteReader& reader_;
  std::string text_;
  size_t used_ = 0;  // of text_, by what was handed out
  RequestError error_;
};

}  // namespace tunnel::net
