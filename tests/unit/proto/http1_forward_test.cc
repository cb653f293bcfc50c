#include "proto/http1_forward.h"

#include <gtest/gtest.h>

#include <string>

namespace tunnel::proto {
namespace {

// The head that is sent on for `text`, or "" when it is not accepted.
std::string Request(const std::string& text, bool close = false) {
  RequestHead head;
  const HeadResult parsed = ParseRequestHead(text, head);
  if (parsed.kind != HeadResult::Kind::kDone) return "";
  return ForwardedRequest(head, close).value();
}

std::string Response(const std::string& text, ResponseForwarding how = {}, std::string_view method = "GET") {
  ResponseHead head;
  EXPECT_EQ(ParseResponseHead(text, method, head).kind, HeadResult::Kind::kDone) << text;
  return ForwardedResponse(head, how).value();
}

TEST(HttpForward, Requests) {
  const struct {
    const char* what;
    std::string in;
    std::string out;
  } cases[] = {
      {"origin form and Host from the target", "GET http://A.test/x?y HTTP/1.1\r\nhost: a.TEST:80\r\n\r\n",
       "GET /x?y HTTP/1.1\r\nHost: A.test\r\n\r\n"},
      {"a port stays in Host", "GET http://a.test:8080 HTTP/1.1\r\nHost: a.test:8080\r\n\r\n",
       "GET / HTTP/1.1\r\nHost: a.test:8080\r\n\r\n"},
      {"IPv6", "GET http://[::1]:81/ HTTP/1.1\r\nHost: [::1]:81\r\n\r\n", "GET / HTTP/1.1\r\nHost: [::1]:81\r\n\r\n"},
      {"a query without a path", "GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?b HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"OPTIONS of the server", "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
       "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"repeated fields and their order", "GET http://a/ HTTP/1.1\r\nX: 1\r\nHost: a\r\nY: 2\r\nx: 3\r\nX: 1\r\n\r\n",
       "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 2\r\nx: 3\r\nX: 1\r\n\r\n"},
      {"fields of one hop",
       "GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nconnection: keep-alive\r\nX-Mine: 1\r\n"
       "Keep-Alive: 5\r\nProxy-Connection: close\r\nProxy-Authorization: Basic eDp5\r\nproxy-future: 1\r\n"
       "TE: trailers\r\nUpgrade: x\r\nTrailer: Sum\r\nX-Mined: 2\r\n\r\n",
       "GET / HTTP/1.1\r\nHost: a\r\nTrailer: Sum\r\nX-Mined: 2\r\n\r\n"},
      {"Connection cannot name framing or Host away",
       "POST http://a/ HTTP/1.1\r\nHost: a\r\nConnection: content-length, host\r\nContent-Length: 007\r\n\r\n",
       "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n"},
      {"chunks", "POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
       "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"},
      {"an upgrade",
       "GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
       "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
      {"no upgrade in HTTP/1.0", "GET http://a/ HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
       "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
      {"Expect", "PUT http://a/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
       "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"},
      {"Expect in HTTP/1.0", "PUT http://a/ HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
       "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"},
      {"Max-Forwards counts down", "TRACE http://a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
       "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 2\r\n\r\n"},
      {"Max-Forwards of GET says nothing", "GET http://a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
       "GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n"},
      {"another Host", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", ""},
      {"another port in Host", "GET http://a/ HTTP/1.1\r\nHost: a:81\r\n\r\n", ""},
  };
  for (const auto& c : cases) EXPECT_EQ(Request(c.in), c.out) << c.what;
  EXPECT_EQ(Request("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", true),
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
}

TEST(HttpForward, Responses) {
  const std::string chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(Response(chunked), chunked);
  EXPECT_EQ(Response(chunked, {.client_minor_version = 0, .close = true}),
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(Response("HTTP/1.0 200 Fine\r\nSet-Cookie: a\r\nset-cookie: b\r\nKeep-Alive: 1\r\nConnection: X\r\nX: 1\r\n"
                     "Proxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\n"),
            "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(Response("HTTP/1.1 200\r\nContent-Length: 10\r\n\r\n", {}, "HEAD"),
            "HTTP/1.1 200 \r\nContent-Length: 10\r\n\r\n");
  EXPECT_EQ(Response("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: x\r\n\r\n"),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: x\r\n\r\n");
  EXPECT_EQ(Response("HTTP/1.1 204 None\r\nContent-Length: 10\r\n\r\n"), "HTTP/1.1 204 None\r\n\r\n");
  EXPECT_EQ(Response("HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: close\r\n\r\n", {.close = true}),
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
  EXPECT_EQ(Response("HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"),
            "HTTP/1.1 101 Go\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
}

TEST(HttpForward, Trailers) {
  EXPECT_EQ(ForwardedTrailers("\r\n"), "");
  EXPECT_EQ(ForwardedTrailers("Sum: 1\r\nsum:2\r\n\r\n"), "Sum: 1\r\nsum:2\r\n");
  EXPECT_EQ(
      ForwardedTrailers("Content-Length: 5\r\nX: 1\r\nTransfer-Encoding: chunked\r\nHost: x\r\nProxy-A: 1\r\n\r\n"),
      "X: 1\r\n");
}

TEST(HttpForward, WhatMayBeSentAgain) {
  const auto may = [](const std::string& text) {
    RequestHead head;
    EXPECT_EQ(ParseRequestHead(text, head).kind, HeadResult::Kind::kDone);
    return MayBeSentAgain(head);
  };
  EXPECT_TRUE(may("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_TRUE(may("DELETE http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_FALSE(may("POST http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_FALSE(may("PUT http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"));
  EXPECT_FALSE(may("GET http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
}

}  // namespace
}  // namespace tunnel::proto
