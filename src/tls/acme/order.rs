//! One conversation with an authority, from the account to the certificate. Answers to challenges are taken away again
//! however it ends.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, ChallengeHandle,
    ChallengeType, Error, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};

use super::due::Held;
use super::{Failed, Managed, Proof, State, challenge, hook};

/// How long an authority may take to look at what it asked for, and then to issue.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long all proofs of one order may take together: those in DNS take their time, one after the other.
const PROOF: Duration = Duration::from_secs(3600);

/// How long one exchange with it may take.
const EXCHANGE: Duration = Duration::from_secs(30);

/// What it says when it was asked too often (RFC 8555 6.7).
const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";

/// Asks for a certificate; its key and itself, with those that vouch for it, in one text.
pub(super) async fn order(managed: &Managed, state: &State) -> Result<String, Failed> {
    let account = account(managed, state).await?;
    let identifiers: Vec<_> = managed.domains.iter().cloned().map(Identifier::Dns).collect();
    let (mut asked, mut replaces) = (NewOrder::new(&identifiers), false);
    // The authority then knows that it is the renewal it has suggested (RFC 9773 5).
    if let Some(held) = state.held().await.filter(|held| held.is_for(&managed.domains))
        && suggested_window(&account, &held).await.is_some()
        && let Some(identifier) = held.identifier()
    {
        (asked, replaces) = (asked.replaces(identifier), true);
    }
    let mut order = match in_time("order a certificate", account.new_order(&asked)).await {
        // It may have been replaced already, by an order that came to nothing: what counts is the new one.
        Err(failed) if replaces && !failed.limited => {
            let again = NewOrder::new(&identifiers);
            in_time("order a certificate", account.new_order(&again)).await?
        }
        ordered => ordered?,
    };
    let mut placed = Vec::new();
    let proved = tokio::time::timeout(PROOF, prove(managed, state, &mut order, &mut placed)).await;
    let late = || Err(Failed::at("prove that the names are ours")("it takes too long".into()));
    let got = proved.unwrap_or_else(|_| late());
    for one in placed {
        one.take_away(managed, state).await;
    }
    got?;
    let key = in_time("have the certificate issued", order.finalize()).await?;
    let patience = RetryPolicy::new().timeout(PATIENCE);
    let chain = tokio::time::timeout(2 * PATIENCE, order.poll_certificate(&patience)).await;
    let late = |_| Failed::at("fetch the certificate")("no answer in time".into());
    let chain = chain.map_err(late)?.map_err(|error| failed("fetch the certificate", error))?;
    Ok(format!("{key}{chain}"))
}

/// When the authority suggests that a certificate be renewed (RFC 9773), if it does.
pub(super) async fn suggested(managed: &Managed, state: &State, held: &Held) -> Option<SystemTime> {
    // Without an account, nothing was ever got from there.
    let credentials = serde_json::from_slice(&state.account().await?).ok()?;
    let account = builder(managed).ok()?.from_credentials(credentials);
    let account = tokio::time::timeout(EXCHANGE, account).await.ok()?.ok()?;
    let (start, end) = suggested_window(&account, held).await?;
    Some(held.between(start, end))
}

async fn suggested_window(account: &Account, held: &Held) -> Option<(SystemTime, SystemTime)> {
    let identifier = held.identifier()?;
    let asked = tokio::time::timeout(EXCHANGE, account.renewal_info(&identifier));
    let (info, _) = asked.await.ok()?.ok()?;
    Some((info.suggested_window.start.into(), info.suggested_window.end.into()))
}

fn builder(managed: &Managed) -> Result<AccountBuilder, Error> {
    match &managed.directory_ca {
        Some(ca) => Account::builder_with_root(ca),
        None => Account::builder(),
    }
}

/// The account that was kept, or a new one.
async fn account(managed: &Managed, state: &State) -> Result<Account, Failed> {
    let builder = builder(managed).map_err(|error| failed("set up the client", error))?;
    let _lock = state.lock_account().await?;
    if let Some(kept) = state.account().await {
        match serde_json::from_slice::<AccountCredentials>(&kept) {
            Ok(credentials) => {
                return in_time("use the account", builder.from_credentials(credentials)).await;
            }
            Err(error) => tracing::warn!(
                "acme: the account that was kept is damaged, a new one is made: {error}"
            ),
        }
    }
    let contact: Vec<_> = managed.contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let made = builder.create(&new, managed.directory.clone(), None);
    let (account, credentials) = in_time("make an account", made).await?;
    let credentials = serde_json::to_vec(&credentials)
        .map_err(|error| Failed::at("keep the account")(error.into()))?;
    state.write_account(credentials).await?;
    Ok(account)
}

/// An answer to a challenge that is there to be looked at.
enum Placed {
    File(String),
    Record { domain: String, value: String },
}

impl Placed {
    async fn take_away(self, managed: &Managed, state: &State) {
        match self {
            Placed::File(name) => state.remove_challenge(&name).await,
            Placed::Record { domain, value } => {
                if let Err(failed) = hook::run(managed, "clear", &domain, &value).await {
                    tracing::warn!("acme: the record for {domain} stays: {failed}");
                }
            }
        }
    }
}

/// Answers what is asked about each name, and waits until the authority is content.
async fn prove(
    managed: &Managed,
    state: &State,
    order: &mut Order,
    placed: &mut Vec<Placed>,
) -> Result<(), Failed> {
    let kind = match managed.proof {
        Proof::Http => ChallengeType::Http01,
        Proof::TlsAlpn => ChallengeType::TlsAlpn01,
        Proof::Dns { .. } => ChallengeType::Dns01,
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization =
            authorization.map_err(|error| failed("read what is to be proved", error))?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let no_such =
            || Failed::at("find a challenge")("the authority does not offer this one".into());
        let mut challenge = authorization.challenge(kind.clone()).ok_or_else(no_such)?;
        place(managed, state, &challenge, placed).await?;
        in_time("say that the answer is there", challenge.set_ready()).await?;
    }
    let patience = RetryPolicy::new().timeout(PATIENCE);
    match order.poll_ready(&patience).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => Ok(()),
        Ok(_) => Err(Failed::at("prove that the names are ours")(why_not(order).await.into())),
        Err(error) => Err(failed("prove that the names are ours", error)),
    }
}

async fn place(
    managed: &Managed,
    state: &State,
    challenge: &ChallengeHandle<'_>,
    placed: &mut Vec<Placed>,
) -> Result<(), Failed> {
    let domain = match challenge.identifier().identifier {
        Identifier::Dns(domain) => domain.clone(),
        other => return Err(Failed::at("answer")(format!("{other:?} is no name").into())),
    };
    let answer = challenge.key_authorization();
    let (name, text) = match &managed.proof {
        Proof::Http => {
            let token = challenge.token.clone();
            if !challenge::is_token(&token) {
                return Err(Failed::at("answer")("its token is none".into()));
            }
            (token, answer.as_str().to_owned())
        }
        Proof::TlsAlpn => {
            let made = challenge::tls_answer(&domain, answer.digest().as_ref());
            let made = made.map_err(|error| Failed::at("make a certificate")(error.into()))?;
            (challenge::tls_file(&domain), made)
        }
        Proof::Dns { delay, .. } => {
            let value = answer.dns_value();
            // Whatever comes of it, it is taken away again.
            placed.push(Placed::Record { domain: domain.clone(), value: value.clone() });
            hook::run(managed, "set", &domain, &value).await?;
            tokio::time::sleep(*delay).await;
            return Ok(());
        }
    };
    state.write_challenge(&name, text).await?;
    placed.push(Placed::File(name));
    Ok(())
}

/// What the authority did not like, in its own words.
async fn why_not(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        let problem = authorization.challenges.iter().find_map(|one| one.error.as_ref());
        if let Some(problem) = problem {
            return problem.to_string();
        }
    }
    "the authority does not say why not".to_owned()
}

async fn in_time<T>(
    step: &'static str,
    exchange: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failed> {
    match tokio::time::timeout(EXCHANGE, exchange).await {
        Ok(outcome) => outcome.map_err(|error| failed(step, error)),
        Err(_) => Err(Failed::at(step)(format!("no answer within {EXCHANGE:?}").into())),
    }
}

fn failed(step: &'static str, error: Error) -> Failed {
    let kind = match &error {
        Error::Api(problem) => problem.r#type.as_deref(),
        _ => None,
    };
    let limited = kind == Some(RATE_LIMITED);
    // Why a server could not be reached stands a few causes further down.
    let mut causes = error.to_string();
    let mut cause: Option<&dyn StdError> = error.source();
    while let Some(deeper) = cause {
        if !causes.contains(&deeper.to_string()) {
            causes = format!("{causes}: {deeper}");
        }
        cause = deeper.source();
    }
    Failed { step, cause: causes.into(), limited }
}
