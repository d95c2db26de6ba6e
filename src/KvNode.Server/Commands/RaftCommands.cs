using System.Globalization;
using System.Text;
using KvNode.Raft;
using KvNode.Server.Resp;

namespace KvNode.Server.Commands;

/// <summary>The node as a member of its cluster, in the original kvnode's names and replies.</summary>
internal static class RaftCommands
{
    private const CommandFlags Anytime = CommandFlags.NoScript | CommandFlags.Loading | CommandFlags.Stale;
    private const CommandFlags Recovered = CommandFlags.NoScript | CommandFlags.Stale;

    public static CommandSpec[] Table { get; } =
    [
        new LocalCommand("RAFTLEADER", 1, Anytime | CommandFlags.Fast, "raft",
            "Returns the leader's address, or null while none is known.", Leader)
        {
            Since = "0.1.0",
        },
        new LocalCommand("RAFTSTATE", 1, Anytime | CommandFlags.Fast, "raft",
            "Returns this node's role: Leader, Follower, Candidate or Shutdown.",
            (ref LocalContext cx) => cx.Reply.Bulk(NameOf(cx.Node.Status.Role)))
        {
            Since = "0.1.0",
        },
        new LocalCommand("RAFTSTATS", 1, Anytime, "raft",
            "Returns names and values of what this node knows of its log, sorted by name.", Stats)
        {
            Since = "0.1.0",
        },
        new LocalCommand("RAFTPEERS", 1, Anytime, "raft",
            "Returns addresses and roles of the cluster's members, sorted by address.", Peers)
        {
            Since = "0.1.0",
            Complexity = "O(N) where N is the number of members.",
        },
        new AdminCommand("RAFTSNAPSHOT", 1, Recovered, "raft",
            "Writes a backup of this node's state to its snapshot directory.", SnapshotAsync)
        {
            Since = "0.1.0",
            Complexity = "O(N) where N is the number of keys.",
        },
        new AdminCommand("RAFTSHRINKLOG", 1, Recovered, "raft",
            "Makes the applied state durable and drops the log it covers.", ShrinkLogAsync)
        {
            Since = "0.1.0",
            Complexity = "O(N) where N is the number of keys not yet flushed.",
        },
    ];

    private static void Leader(ref LocalContext cx)
    {
        if (cx.Node.Status.LeaderAddress is { } address)
        {
            cx.Reply.Bulk(Encoding.UTF8.GetBytes(address));
        }
        else
        {
            cx.Reply.Null();
        }
    }

    private static void Stats(ref LocalContext cx)
    {
        var status = cx.Node.Status;
        var reply = cx.Reply;
        reply.MapHeader(11);
        Pair(reply, "applied_index"u8, status.AppliedIndex);
        Pair(reply, "commit_index"u8, status.CommitIndex);
        Pair(reply, "fsm_pending"u8, status.CommitIndex - Math.Min(status.AppliedIndex, status.CommitIndex));

        // The time since a leader was heard of. A node that was never a follower has heard of none.
        reply.Bulk("last_contact"u8);
        reply.Bulk(Encoding.ASCII.GetBytes(DurationOf(status.LastContact)));
        Pair(reply, "last_log_index"u8, status.LastLog.Index);
        Pair(reply, "last_log_term"u8, status.LastLog.Term);
        Pair(reply, "last_snapshot_index"u8, status.LastSnapshot.Index);
        Pair(reply, "last_snapshot_term"u8, status.LastSnapshot.Term);
        Pair(reply, "num_peers"u8, (ulong)status.Members.Count(member => member.Id != status.NodeId));
        reply.Bulk("state"u8);
        reply.Bulk(NameOf(status.Role));
        Pair(reply, "term"u8, status.Term);
    }

    private static void Peers(ref LocalContext cx)
    {
        var status = cx.Node.Status;
        var members = status.Members.OrderBy(member => member.Address, StringComparer.Ordinal).ToArray();
        cx.Reply.MapHeader(members.Length);
        foreach (var member in members)
        {
            cx.Reply.Bulk(Encoding.UTF8.GetBytes(member.Address));
            cx.Reply.Bulk(Encoding.ASCII.GetBytes(StateOf(member, status)));
        }
    }

    /// <summary>A member's role as this node sees it; <c>Invalid</c>, the original's word, for one it does not reach.</summary>
    internal static string StateOf(RaftMember member, NodeStatus status)
    {
        var role = member.Id == status.NodeId ? status.Role : member.Role;
        return role is { } known ? Encoding.ASCII.GetString(NameOf(known)) : "Invalid";
    }

    /// <summary>As the original writes it: <c>never</c>, <c>0</c> on a leader that once followed, else with a unit.</summary>
    internal static string DurationOf(TimeSpan? contact) => contact switch
    {
        null => "never",
        { Ticks: 0 } => "0",
        { TotalSeconds: >= 1 } time => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.######}s"),
        { } time => string.Create(CultureInfo.InvariantCulture, $"{time.TotalMilliseconds:0.######}ms"),
    };

    private static async ValueTask SnapshotAsync(AdminContext cx)
    {
        if (cx.Node.Status.AppliedIndex == 0)
        {
            cx.Reply.Error(RespError.NothingToSnapshot);
            return;
        }

        Answer(cx.Reply, await cx.Node.SnapshotAsync());
    }

    private static async ValueTask ShrinkLogAsync(AdminContext cx) => Answer(cx.Reply, await cx.Node.ShrinkLogAsync());

    private static void Answer(RespWriter reply, AdminOutcome outcome)
    {
        if (outcome.Ok)
        {
            reply.Ok();
        }
        else
        {
            RespError.Because(reply, outcome.Detail);
        }
    }

    private static void Pair(RespWriter reply, ReadOnlySpan<byte> name, ulong value)
    {
        reply.Bulk(name);
        reply.Bulk(Encoding.ASCII.GetBytes(value.ToString(CultureInfo.InvariantCulture)));
    }

    private static ReadOnlySpan<byte> NameOf(RaftRole role) => role switch
    {
        RaftRole.Leader => "Leader"u8,
        RaftRole.Follower => "Follower"u8,
        RaftRole.Candidate => "Candidate"u8,
        _ => "Shutdown"u8,
    };
}
