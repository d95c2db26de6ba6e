namespace KvNode.Raft.Core;

/// <summary>Terms, votes and who leads.</summary>
internal sealed partial class RaftCore
{
    /// <summary>Answers to this node's campaign, its own among them.</summary>
    private readonly List<(ulong Voter, bool Granted)> _votes = [];

    /// <summary>Since the leader was last heard (as leader: since the quorum was last checked, or a transfer began).</summary>
    private int _electionElapsed;
    private int _electionTimeout;
    private int _heartbeatElapsed;

    /// <summary>As <see cref="_electionElapsed"/>, but not reset by campaigns: what leases rely on. Stops at the base.</summary>
    private int _ticksSinceLeader;

    /// <summary>Ticks for which this node does not campaign, after <see cref="Resign"/>.</summary>
    private int _abstention;

    /// <summary>Persist that makes this candidate's vote for itself durable; ulong.MaxValue while not handed out.</summary>
    private ulong _ownVoteSequence;

    /// <summary>A leader was heard of within the base timeout: no vote for others. Only who follows one; a candidate has
    /// given it up. With leases nobody gives up a leader that he heard so recently.</summary>
    private bool HearsLeader => (Leader != 0 && _electionElapsed < _options.ElectionTicks) || OwesSilence;

    /// <summary>A leader may count on this node to make no other one for a while.</summary>
    private bool OwesSilence =>
        LeasesAreOn
        && _ticksSinceLeader < _options.ElectionTicks
        && !(Membership.VoterSpan.Length == 1 && Membership.VoterSpan[0] == NodeId && !Membership.IsJoint);

    /// <summary>May become leader: a voter, and not in the middle of taking over a snapshot.</summary>
    private bool IsPromotable => Membership.IsVoter(NodeId) && !IsRestoring;

    /// <summary>Starts an election now, as if the timeout had passed.</summary>
    public void Campaign()
    {
        if (MayCampaign() && !OwesSilence)
        {
            BecomePreCandidate();
        }
    }

    /// <summary>Steps down without a successor, for a leader that cannot write. Does not campaign for two election timeouts.</summary>
    public void Resign()
    {
        _abstention = 2 * _options.ElectionTicks;
        if (Role != CoreRole.Follower)
        {
            BecomeFollower(Term, 0);
        }
    }

    /// <summary>A follower acts as if it did not know the leader, until it hears of it again. Nothing with leases, which
    /// rest on its memory.</summary>
    public void ForgetLeader()
    {
        if (Role == CoreRole.Follower && !LeasesAreOn)
        {
            SetLeader(0);
        }
    }

    private void TickElection()
    {
        _electionElapsed = Math.Min(_electionElapsed + 1, _electionTimeout);
        if (_electionElapsed < _electionTimeout)
        {
            return;
        }

        if (IsPromotable)
        {
            _electionElapsed = 0;
            Campaign();
        }

        if (Role == CoreRole.Follower)
        {
            // Who may not campaign cannot end the silence. Whoever waits for the leader shall know of it all the same, and
            // others get this node's vote.
            SetLeader(0);
        }
    }

    private bool MayCampaign() =>
        Role != CoreRole.Leader && IsPromotable && _abstention == 0 && !HasUnappliedChange();

    /// <summary>A committed change that is not applied yet decides who votes: campaigning by the old one could give two
    /// leaders.</summary>
    private bool HasUnappliedChange()
    {
        for (var index = Applied + 1; index <= Commit; index++)
        {
            if (Log.At(index).Kind == EntryKind.Configuration)
            {
                return true;
            }
        }

        return false;
    }

    private void StepVoteRequest(in Message message)
    {
        var isPreVote = message.Type == MessageType.PreVote;
        var isFree = Vote == message.From
            || (Vote == 0 && Leader == 0)
            || (isPreVote && message.Term > Term);
        var isUpToDate = message.Entry.Term > Log.Last.Term
            || (message.Entry.Term == Log.Last.Term && message.Entry.Index >= Log.Last.Index);
        var granted = isFree && isUpToDate;
#if PLANTED_BUGS
        granted |= isFree && Planted.Is(Bug.VotesForOldLogs);
#endif
        if (granted && !isPreVote)
        {
            _electionElapsed = 0;
            SetHardState(Term, message.From);
        }

        if (!granted)
        {
            RefuseVote(message);
            return;
        }

        SendAfterPersist(new Message
        {
            Type = isPreVote ? MessageType.PreVoteResponse : MessageType.VoteResponse,
            To = message.From,
            Term = message.Term,
        });
    }

    /// <summary>
    /// A refusal tells what is committed. The asker may have all of that without knowing, a change of the configuration among
    /// it, and wait for ever for the vote of a member that left with a longer log.
    /// </summary>
    private void RefuseVote(in Message request)
    {
        Invariant.Check(Log.TryTerm(Commit, out var term));
        SendAfterPersist(new Message
        {
            Type = request.Type == MessageType.PreVote ? MessageType.PreVoteResponse : MessageType.VoteResponse,
            To = request.From,
            Reject = true,
            Entry = new EntryId(term, Commit),
        });
    }

    private void LearnCommit(EntryId committed)
    {
        if (committed.Index <= Commit || !Log.Matches(committed))
        {
            return;
        }

        Commit = committed.Index;
        if (Role != CoreRole.Follower && HasUnappliedChange())
        {
            BecomeFollower(Term, 0);
        }
    }

    private void StepVoteResponse(in Message message)
    {
        var isPreVote = message.Type == MessageType.PreVoteResponse;
        if (message.Reject && Role != CoreRole.Leader)
        {
            LearnCommit(message.Entry);
        }

        if (Role != (isPreVote ? CoreRole.PreCandidate : CoreRole.Candidate))
        {
            return;
        }

        // A grant of an earlier round of pre-votes, or one that was never asked for.
        if (isPreVote && !message.Reject && message.Term != Term + 1)
        {
            return;
        }

        Record(message.From, !message.Reject);
    }

    private void StepTimeoutNow()
    {
        if (Role == CoreRole.Follower && MayCampaign())
        {
            BecomeCandidate(force: true);
        }
    }

    private void BecomeFollower(ulong term, ulong leader)
    {
        Reset(term, CoreRole.Follower);
        SetLeader(leader);
    }

    private void BecomePreCandidate()
    {
        Reset(Term, CoreRole.PreCandidate);
        RequestVotes(MessageType.PreVote, Term + 1, force: false);
        // Binds nobody, so it need not be durable.
        Record(NodeId, granted: true);
    }

    /// <param name="force">In a transfer: a live leader does not hold the voters back.</param>
    private void BecomeCandidate(bool force)
    {
        Reset(Term + 1, CoreRole.Candidate);
        SetHardState(Term, NodeId);
        _ownVoteSequence = ulong.MaxValue;
        RequestVotes(MessageType.Vote, Term, force);
    }

    private void BecomeLeader()
    {
        Invariant.Check(Role == CoreRole.Candidate);
        Reset(Term, CoreRole.Leader);
        SetLeader(NodeId);
        StartLeading();
    }

    /// <summary>What every change of role or term starts from.</summary>
    private void Reset(ulong term, CoreRole role)
    {
        Invariant.Check(term >= Term);
        if (Role == CoreRole.Leader)
        {
            StopLeading();
        }

        if (term != Term)
        {
            SetHardState(term, 0);
            ForgetAcks();
        }

        Role = role;
        SetLeader(0);
        _votes.Clear();
        _electionElapsed = 0;
        _heartbeatElapsed = 0;
        DrawTimeout();
    }

    private void SetHardState(ulong term, ulong vote)
    {
        Invariant.Check(term > Term || (term == Term && (Vote == 0 || Vote == vote)));
        _isHardStateNew |= term != Term || vote != Vote;
        Term = term;
        Vote = vote;
    }

    private void SetLeader(ulong leader)
    {
        if (Leader == leader)
        {
            return;
        }

        Leader = leader;
        FailForwardedReads();
    }

    private void DrawTimeout() => _electionTimeout = _options.ElectionTicks + _random.Next(_options.ElectionTicks);

    private void RequestVotes(MessageType type, ulong term, bool force)
    {
        foreach (var id in Membership.Voters)
        {
            RequestVote(type, term, id, force);
        }

        foreach (var id in Membership.Outgoing)
        {
            if (!Membership.VoterSpan.Contains(id))
            {
                RequestVote(type, term, id, force);
            }
        }
    }

    private void RequestVote(MessageType type, ulong term, ulong voter, bool force)
    {
        if (voter == NodeId)
        {
            return;
        }

        var request = new Message { Type = type, To = voter, Term = term, Entry = Log.Last, Force = force };
        if (type == MessageType.Vote)
        {
            SendAfterPersist(request);
        }
        else
        {
            Send(request);
        }
    }

    /// <summary>This candidate's vote for itself is on disk.</summary>
    private void CountOwnVote()
    {
        if (Role == CoreRole.Candidate && _completed >= _ownVoteSequence)
        {
            Record(NodeId, granted: true);
        }
    }

    private void Record(ulong voter, bool granted)
    {
        foreach (var (known, _) in _votes)
        {
            if (known == voter)
            {
                return;
            }
        }

        _votes.Add((voter, granted));
        var result = Quorum.Both(Tally(Membership.VoterSpan), Tally(Membership.OutgoingSpan));
        if (result == VoteResult.Lost)
        {
            BecomeFollower(Term, 0);
        }
        else if (result == VoteResult.Won && Role == CoreRole.PreCandidate)
        {
            BecomeCandidate(force: false);
        }
        else if (result == VoteResult.Won)
        {
            BecomeLeader();
        }
    }

    private VoteResult Tally(ReadOnlySpan<ulong> voters)
    {
        var granted = 0;
        var refused = 0;
        foreach (var (voter, isGranted) in _votes)
        {
            if (voters.Contains(voter))
            {
                granted += isGranted ? 1 : 0;
                refused += isGranted ? 0 : 1;
            }
        }

        return Quorum.Vote(voters.Length, granted, refused);
    }
}
