namespace KvNode.Raft;

/// <summary>Bugs that the simulation's build of the sources has on demand: the proof that the simulation can see.</summary>
internal enum Bug
{
    None,

    /// <summary>Vote requests and votes leave before term and vote are on disk.</summary>
    VoteBeforeDurable,

    /// <summary>A follower acknowledges what it has only in memory.</summary>
    AckBeforeDurable,

    /// <summary>A leader counts itself for what it has only in memory.</summary>
    LeaderCountsUndurable,

    /// <summary>Copies of older terms' entries are counted (Raft paper, figure 8).</summary>
    CommitsOlderTerms,

    /// <summary>A vote for a candidate whose log is behind.</summary>
    VotesForOldLogs,

    /// <summary>The vote is not read back at a start.</summary>
    ForgetsVote,

    /// <summary>What others have committed is applied before this node's disk has it.</summary>
    AppliesBeforeDurable,

    /// <summary>A leader answers reads without asking whether it still is one.</summary>
    ReadsWithoutRound,

    /// <summary>A new leader answers reads by the commit index of earlier terms.</summary>
    ReadsBeforeTermCommit,

    /// <summary>A read is confirmed by answers to what was asked before it came.</summary>
    ReadsJoinOldRound,

    /// <summary>A read is served before its index is applied.</summary>
    ReadsBeforeApplied,

    /// <summary>In a joint configuration only the incoming half decides what is committed.</summary>
    IgnoresOutgoingHalf,

    /// <summary>Half of an even number of voters is a majority.</summary>
    HalfIsEnough,

    /// <summary>A late Append cuts off what came after its entries.</summary>
    StaleAppendTruncates,

    /// <summary>A batch is executed as often as it is in the log.</summary>
    ExecutesCopies,

    /// <summary>Heartbeats carry a commit index beyond what the follower is known to have.</summary>
    HeartbeatCommitsAll,

    /// <summary>A finished write counts for entries that have taken the place of what it wrote.</summary>
    OldWritesCount,

    /// <summary>A received snapshot loses the sessions.</summary>
    SnapshotDropsSessions,

    /// <summary>Log is given up that the state machine has not made durable.</summary>
    CompactsWhatIsNotDurable,

    /// <summary>A received snapshot's configuration does not come into force.</summary>
    SnapshotWithoutMembership,

    /// <summary>Nothing is sent again over a new connection.</summary>
    NeverSendsAgain,

    /// <summary>A batch that may be in a log is answered with "no leader".</summary>
    DeniesTheUnknown,

    /// <summary>Whoever leads has a lease for as long as it thinks so.</summary>
    LeaseNeverEnds,

    /// <summary>A leader of an older term is not told of the newer one.</summary>
    SilentToOldLeaders,

    /// <summary>Some syncs of the log do nothing.</summary>
    SkipsSyncs,

    /// <summary>The log restarts at a snapshot before the state machine has it.</summary>
    LogBeforeSnapshot,

    /// <summary>A second change of the members while the first is not applied.</summary>
    ChangesWhilePending,

    /// <summary>A change is over, and a removed leader steps down, as soon as the leader has applied it.</summary>
    LeavesAtOnce,

    /// <summary>A batch that lost its place is answered as if it had been executed.</summary>
    AnswersTheSuperseded,
}

/// <summary>Which of them is alive. Set between runs only.</summary>
internal static class Planted
{
    public static Bug Bug { get; set; }

    public static bool Is(Bug bug) => Bug == bug;
}
