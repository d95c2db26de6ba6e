using System.Text;
using KvNode.Raft.Core;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>What a node of a scenario starts from. The defaults: a fresh node among the voters 1, 2 and 3.</summary>
internal sealed record Setup
{
    public const int ElectionTicks = 10;
    public const int HeartbeatTicks = 2;

    public Membership Membership { get; init; } = Config.Of(1, 2, 3);

    public ulong Term { get; init; }

    public ulong Vote { get; init; }

    /// <summary>Terms of the entries after <see cref="BeforeFirst"/>.</summary>
    public ulong[] Log { get; init; } = [];

    public EntryId BeforeFirst { get; init; }

    public ulong Commit { get; init; }

    /// <summary>Index; the term is looked up.</summary>
    public ulong Applied { get; init; }

    public int MessageBytesMax { get; init; } = 1 << 20;

    public int InflightMessagesMax { get; init; } = 128;

    public long InflightBytesMax { get; init; } = 16 << 20;

    public long UncommittedBytesMax { get; init; } = 64 << 20;

    public long ApplyBytesMax { get; init; } = 8 << 20;

    public long LeaseNanoseconds { get; init; }

    public ulong Seed { get; init; } = 1;

    /// <summary>The log as entries. Equal (index, term) have equal payloads everywhere, as one leader made them.</summary>
    public List<LogEntry> Entries()
    {
        var entries = new List<LogEntry>();
        foreach (var term in Log)
        {
            entries.Add(Entry(BeforeFirst.Index + (ulong)entries.Count + 1, term));
        }

        return entries;
    }

    public static LogEntry Entry(ulong index, ulong term) =>
        new(new EntryId(term, index), EntryKind.Normal, Encoding.ASCII.GetBytes($"{index}@{term}"));

    public CoreOptions Options(ulong node) => new()
    {
        NodeId = node,
        ElectionTicks = ElectionTicks,
        HeartbeatTicks = HeartbeatTicks,
        MessageBytesMax = MessageBytesMax,
        InflightMessagesMax = InflightMessagesMax,
        InflightBytesMax = InflightBytesMax,
        UncommittedBytesMax = UncommittedBytesMax,
        ApplyBytesMax = ApplyBytesMax,
        LeaseNanoseconds = LeaseNanoseconds,
        Seed = (Seed * 1_000_003) + node,
    };
}

/// <summary>Short names for configurations and their changes.</summary>
internal static class Config
{
    public static Membership Of(params ReadOnlySpan<ulong> voters)
    {
        var members = new (ulong, string)[voters.Length];
        for (var i = 0; i < voters.Length; i++)
        {
            members[i] = (voters[i], Address(voters[i]));
        }

        return Membership.OfVoters(members);
    }

    public static Membership WithLearners(this Membership membership, params ReadOnlySpan<ulong> learners)
    {
        foreach (var learner in learners)
        {
            membership = membership.After(Change(Learner(learner)));
        }

        return membership;
    }

    /// <summary>The configuration after a change that is possible.</summary>
    public static Membership After(this Membership membership, ConfigurationChange change) =>
        membership.TryApply(change, out var refusal) ?? throw new InvalidOperationException(refusal);

    public static ConfigurationChange Change(params NodeChange[] changes) => new(ChangeTransition.Auto, changes);

    public static ConfigurationChange Joint(params NodeChange[] changes) => new(ChangeTransition.JointExplicit, changes);

    public static ConfigurationChange JointThatLeaves(params NodeChange[] changes) =>
        new(ChangeTransition.JointImplicit, changes);

    public static NodeChange Add(ulong node) => new(MembershipChangeKind.AddVoter, node, Address(node));

    public static NodeChange Learner(ulong node) => new(MembershipChangeKind.AddLearner, node, Address(node));

    public static NodeChange Promote(ulong node) => new(MembershipChangeKind.Promote, node, "");

    public static NodeChange Demote(ulong node) => new(MembershipChangeKind.Demote, node, "");

    public static NodeChange Remove(ulong node) => new(MembershipChangeKind.Remove, node, "");

    /// <summary>A configuration as one line: <c>1 2 3|4 &amp; 1 2 ~5 auto</c> is voters, learners, outgoing, learners next.</summary>
    public static string Line(this Membership membership)
    {
        var line = new StringBuilder().AppendJoin(' ', membership.Voters);
        if (membership.Learners.Count > 0)
        {
            line.Append('|').AppendJoin(' ', membership.Learners);
        }

        if (membership.Outgoing.Count > 0)
        {
            line.Append(" & ").AppendJoin(' ', membership.Outgoing);
        }

        if (membership.LearnersNext.Count > 0)
        {
            line.Append(" ~").AppendJoin(' ', membership.LearnersNext);
        }

        return line.Append(membership.AutoLeave ? " auto" : "").ToString();
    }

    private static string Address(ulong node) => $"node{node}:1";
}
