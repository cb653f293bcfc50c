#include "net/doh_client.h"

#include <utility>

#include "core/check.h"
#include "net/doh_http1.h"
#include "net/staggered_race.h"
#include "proto/base64.h"
#include "proto/dns_name.h"
#include "proto/url.h"

namespace tunnel::net {
namespace {

// Whether `response` is one to `question`, its rcode aside.
absl::Status CheckResponse(const proto::DnsResponse& response, const proto::DnsQuestion& question) {
  if (response.id != 0) return ProtocolError("a DNS response with another id");
  if (response.truncated) return ProtocolError("a truncated DNS response");
  if (!response.question.has_value()) {
    return ProtocolError("a DNS response without its question ({})", proto::ToString(response.rcode));
  }
  if (*response.question != question) return ProtocolError("a DNS response to another question");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DohEndpoint> ParseDohUrl(std::string_view url) {
  constexpr std::string_view kTemplate = "{?dns}";
  std::string_view text = url;
  if (text.ends_with(kTemplate)) text.remove_suffix(kTemplate.size());
  const bool has_scheme = text.find("://") != std::string_view::npos;
  absl::StatusOr<proto::Url> parsed =
      proto::ParseUrl(has_scheme ? std::string(text) : fmt::format("https://{}", text), {"https"});
  if (!parsed.ok()) return parsed.status();
  if (parsed->credentials.has_value()) {
    return InvalidArgument("{}: a DoH URL takes no user name", proto::WithoutCredentials(url));
  }
  DohEndpoint endpoint;
  endpoint.host = std::move(parsed->host);
  endpoint.port = parsed->port.value_or(proto::kHttpsPort);
  if (!parsed->path.empty()) endpoint.path = std::move(parsed->path);
  return endpoint;
}

DohClient::DohClient(core::Reactor& reactor, DohConnector& connector, std::vector<DohEndpoint> endpoints,
                     DohClientOptions options)
    : reactor_(reactor), connector_(connector), options_(options) {
  TUNNEL_CHECK(!endpoints.empty());
  for (DohEndpoint& endpoint : endpoints) {
    Server& server = servers_.emplace_back();
    server.authority = proto::HttpsAuthority(endpoint.host, endpoint.port);
    server.endpoint = std::move(endpoint);
  }
}

DohClient::~DohClient() = default;

core::Task<absl::StatusOr<std::vector<uint8_t>>> DohClient::Query(std::string name, uint16_t type) {
  const auto dns_type = static_cast<proto::DnsType>(type);
  absl::StatusOr<std::string> canonical = proto::CanonicalDnsName(name);
  if (!canonical.ok()) co_return canonical.status();
  const absl::StatusOr<std::vector<uint8_t>> message = proto::BuildQuery(*canonical, dns_type);
  if (!message.ok()) co_return message.status();
  Question question;
  question.question = {.name = *std::move(canonical), .type = dns_type};
  question.parameter = fmt::format("dns={}", proto::Base64UrlEncode(*message));
  question.message.assign(message->begin(), message->end());

  using Response = std::vector<uint8_t>;
  core::Task<RaceOutcome<Response>> race = StaggeredRace<Response>(
      [this, &question](size_t number) { return Ask(&servers_[number], &question); }, servers_.size(),
      RaceLimits{.delay = options_.hedge_delay, .limit = options_.query_limit});
  RaceOutcome<Response> outcome = co_await std::move(race);
  if (outcome.winner.has_value()) co_return std::move(*outcome.winner);
  if (!outcome.interruption.ok()) co_return outcome.interruption;
  if (!question.without_success.empty()) co_return std::move(question.without_success);

  absl::StatusCode code = absl::StatusCode::kOk;
  std::string words;
  for (size_t i = 0; i < servers_.size(); ++i) {
    const absl::Status failure = Failure(std::move(outcome.failures[i]), i, i < outcome.started);
    if (code == absl::StatusCode::kOk) code = failure.code();
    if (i > 0) words += "; ";
    words += MessageOf(failure);
  }
  co_return MakeStatus(code, "{}", words);
}

absl::Status DohClient::Failure(absl::Status failure, size_t number, bool started) const {
  if (failure.ok()) {
    failure = DeadlineExceeded("{} {} ms", started ? "no answer within" : "not asked within",
                               core::ToMilliseconds(options_.query_limit));
  }
  return Annotate(failure, "DoH resolver {}", servers_[number].authority);
}

DohRequest DohClient::RequestFor(const Server& server, const Question& question) {
  if (server.takes_post) {
    return {.authority = server.authority, .path = server.endpoint.path, .body = question.message};
  }
  const char separator = server.endpoint.path.find('?') == std::string::npos ? '?' : '&';
  return {.authority = server.authority,
          .path = fmt::format("{}{}{}", server.endpoint.path, separator, question.parameter),
          .body = {}};
}

core::Task<absl::StatusOr<std::vector<uint8_t>>> DohClient::Ask(Server* server, Question* question) {
  absl::StatusOr<std::vector<uint8_t>> body = co_await Fetch(server, RequestFor(*server, *question));
  if (absl::IsUnimplemented(body.status()) && !server->takes_post) {
    server->takes_post = true;
    absl::StatusOr<std::vector<uint8_t>> posted = co_await Fetch(server, RequestFor(*server, *question));
    // What it said first is as good a reason where it takes neither.
    if (absl::IsUnimplemented(posted.status())) server->takes_post = false;
    if (posted.ok() || server->takes_post) body = std::move(posted);
  }
  if (!body.ok()) co_return body.status();
  const absl::StatusOr<proto::DnsResponse> response = proto::ParseResponse(*body);
  if (!response.ok()) co_return response.status();
  if (absl::Status checked = CheckResponse(*response, question->question); !checked.ok()) co_return checked;
  if (response->rcode == proto::DnsRcode::kNoError || response->rcode == proto::DnsRcode::kNxDomain) {
    co_return std::move(body);
  }
  if (question->without_success.empty()) question->without_success = *std::move(body);
  co_return Unavailable("{}", proto::ToString(response->rcode));
}

core::Task<absl::StatusOr<std::vector<uint8_t>>> DohClient::Fetch(Server* server, DohRequest request) {
  // A kept connection may have died unnoticed: then, once, a new one is made. A question may be repeated.
  bool may_retry = true;
  while (true) {
    if (server->session != nullptr && !server->session->usable()) server->session.reset();
    if (const std::shared_ptr<DohHttp2> session = server->session; session != nullptr) {
      core::Task<absl::StatusOr<std::vector<uint8_t>>> fetch = session->Fetch(request);
      absl::StatusOr<std::vector<uint8_t>> body = co_await std::move(fetch);
      const bool interrupted = !(co_await core::CurrentTask()).interruption().ok();
      if (body.ok() || !may_retry || interrupted || session->usable()) co_return std::move(body);
      may_retry = false;
      continue;
    }
    if (const std::shared_ptr<Dial> dial = server->dial; dial != nullptr) {
      if (absl::Status waited = co_await dial->done.Wait(); !waited.ok()) co_return waited;
      // A dial that its task gave up says nothing about the resolver.
      if (!dial->status.ok() && !absl::IsCancelled(dial->status)) co_return dial->status;
      continue;
    }

    std::shared_ptr<Dial> dial;
    if (!server->speaks_http1) server->dial = dial = std::make_shared<Dial>();
    core::Task<absl::StatusOr<DohConnection>> connect =
        connector_.Connect(server->endpoint.host, server->endpoint.port);
    absl::StatusOr<DohConnection> connection = co_await std::move(connect);
    const bool interrupted = !(co_await core::CurrentTask()).interruption().ok();
    if (dial != nullptr) {
      server->dial.reset();
      dial->status = !connection.ok() && interrupted ? Cancelled() : connection.status();
      dial->done.Set();
    }
    if (!connection.ok()) co_return connection.status();
    if (connection->alpn == "h2") {
      server->speaks_http1 = false;
      server->session = std::make_shared<DohHttp2>(reactor_, std::move(connection->stream));
      may_retry = false;
      continue;
    }
    if (!connection->alpn.empty() && connection->alpn != "http/1.1") {
      co_return ProtocolError("it chose the protocol {}", connection->alpn);
    }
    server->speaks_http1 = true;
    core::Task<absl::StatusOr<std::vector<uint8_t>>> fetch =
        FetchHttp1(*connection->stream, reactor_.buffers(), std::move(request));
    absl::StatusOr<std::vector<uint8_t>> body = co_await std::move(fetch);
    if (body.ok()) connection->stream->CloseAfterSend(kDohCloseLimit);
    co_return std::move(body);
  }
}

}  // namespace tunnel::net
