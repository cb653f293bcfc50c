#include "proto/http1_builder.h"

#include <algorithm>

#include "core/status.h"
#include "proto/http1_grammar.h"

namespace tunnel::proto {

HttpHeadBuilder HttpHeadBuilder::Request(std::string_view method, std::string_view target) {
  HttpHeadBuilder builder;
  if (!IsToken(method)) {
    builder.status_ = InvalidArgument("the HTTP method is not a token");
  } else if (target.empty() || !std::all_of(target.begin(), target.end(), IsVchar)) {
    builder.status_ = InvalidArgument("the HTTP request target is empty or not visible ASCII");
  } else {
    builder.head_ = fmt::format("{} {} HTTP/1.1\r\n", method, target);
  }
  return builder;
}

HttpHeadBuilder HttpHeadBuilder::Response(int status, std::string_view reason) {
  HttpHeadBuilder builder;
  if (status < 100 || status > 599) {
    builder.status_ = InvalidArgument("{} is not an HTTP status", status);
  } else if (!IsFieldValue(reason)) {
    builder.status_ = InvalidArgument("control character in the HTTP reason phrase");
  } else {
    builder.head_ = fmt::format("HTTP/1.1 {} {}\r\n", status, reason);
  }
  return builder;
}

HttpHeadBuilder& HttpHeadBuilder::Add(std::string_view name, std::string_view value) {
  if (!status_.ok()) return *this;
  if (!IsToken(name)) {
    status_ = InvalidArgument("an HTTP header name is not a token");
  } else if (!IsFieldValue(value)) {
    status_ = InvalidArgument("control character in the HTTP header {}", name);
  } else {
    fmt::format_to(std::back_inserter(head_), "{}: {}\r\n", name, value);
  }
  return *this;
}

absl::StatusOr<std::string> HttpHeadBuilder::Finish() {
  if (!status_.ok()) return status_;
  return head_ + "\r\n";
}

}  // namespace tunnel::proto
