using System.Globalization;
using System.Text;
using KvNode.Raft;
using KvNode.Server.Resp;

namespace KvNode.Server.Commands;

/// <summary>Changes of the cluster: the original kvnode's names, and RAFT with subcommands. On any node; the leader does it.</summary>
internal static class MemberCommands
{
    private const CommandFlags Anytime = CommandFlags.NoScript | CommandFlags.Loading | CommandFlags.Stale;
    private const CommandFlags Recovered = CommandFlags.NoScript | CommandFlags.Stale;

    public static CommandSpec[] Table { get; } =
    [
        new AdminCommand("RAFTADDPEER", 2, Recovered, "raft",
            "Adds the empty node at an address; it votes when it has caught up.",
            async cx => Answer(cx.Reply, await AddAsync(cx, cx.Args[1], MembershipChangeKind.AddVoter)))
        {
            Syntax = "address",
            Since = "0.2.0",
        },
        new AdminCommand("RAFTREMOVEPEER", 2, Recovered, "raft",
            "Removes the member at an address.",
            async cx => Answer(cx.Reply, await ChangeAsync(cx, cx.Args[1], MembershipChangeKind.Remove)))
        {
            Syntax = "address",
            Since = "0.2.0",
        },
        new ContainerCommand("RAFT", "raft", "The cluster and its members.")
        {
            Since = "0.2.0",
            Complexity = "Depends on subcommand.",
            Subcommands = Subcommands(),
        },
    ];

    private static CommandSpec[] Subcommands() =>
    [
        new LocalCommand("RAFT|INFO", 2, Anytime, "raft", "Returns what this node knows of the cluster and of its log.",
            (ref LocalContext cx) => cx.Reply.VerbatimText(Encoding.UTF8.GetBytes(InfoReport.Write(cx.Node, ["raft"]))))
        {
            Since = "0.2.0",
        },
        new AdminCommand("RAFT|SERVER", -3, Recovered, "raft",
            "Lists the members, or adds, removes, promotes, demotes or replaces one; a node is its id or its address.", ServerAsync)
        {
            Syntax = "<LIST | ADD address [LEARNER] | REMOVE node | PROMOTE node | DEMOTE node | REPLACE node address>",
            Since = "0.2.0",
            Complexity = "O(N) where N is the number of members.",
            Check = ServerFits,
        },
        new AdminCommand("RAFT|TRANSFER", -2, Recovered, "raft",
            "Hands leadership to a node, or to the voter that has most of the log.", TransferAsync)
        {
            Syntax = "[node]",
            Since = "0.2.0",
            Check = TransferFits,
        },
        new AdminCommand("RAFT|SNAPSHOT", 3, Recovered, "raft",
            "Writes a backup of this node's state and returns its id, or lists the backups.", SnapshotAsync)
        {
            Syntax = "<NOW | LIST>",
            Since = "0.2.0",
            Complexity = "O(N) where N is the number of keys.",
            Check = SnapshotFits,
        },
        new LocalCommand("RAFT|HELP", 2, Anytime, "raft", "Prints this help.",
            (ref LocalContext cx) => CommandHelp.Write(cx.Reply, "RAFT"))
        {
            Since = "0.2.0",
        },
    ];

    /// <summary>A host and a port, as clients and nodes would call it.</summary>
    internal static bool IsAddress(ReadOnlySpan<byte> text)
    {
        var colon = text.LastIndexOf((byte)':');
        return colon > 0 && text.Length <= byte.MaxValue && !text.ContainsAnyExceptInRange((byte)'!', (byte)'~')
            && ushort.TryParse(text[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port > 0;
    }

    private static bool ServerFits(CommandArgs args, RespWriter reply)
    {
        var words = Is(args, 2, "LIST") ? 3
            : Is(args, 2, "REPLACE") ? 5
            : Is(args, 2, "ADD") && args.Count == 5 && Is(args, 4, "LEARNER") ? 5
            : Is(args, 2, "ADD") || Is(args, 2, "REMOVE") || Is(args, 2, "PROMOTE") || Is(args, 2, "DEMOTE") ? 4
            : 0;
        return IsKnown(words > 0, args, reply) && Fits(words == args.Count, reply);
    }

    private static bool TransferFits(CommandArgs args, RespWriter reply) => Fits(args.Count <= 3, reply);

    private static bool SnapshotFits(CommandArgs args, RespWriter reply) =>
        IsKnown(Is(args, 2, "NOW") || Is(args, 2, "LIST"), args, reply);

    /// <summary>The word after RAFT SERVER or RAFT SNAPSHOT is answered for as any other subcommand.</summary>
    private static bool IsKnown(bool isKnown, CommandArgs args, RespWriter reply)
    {
        if (!isKnown)
        {
            RespError.UnknownSubcommand(reply, args[0], args[2]);
        }

        return isKnown;
    }

    private static bool Fits(bool fits, RespWriter reply)
    {
        if (!fits)
        {
            reply.Error(RespError.Syntax);
        }

        return fits;
    }

    private static bool Is(CommandArgs args, int index, string word) =>
        index < args.Count && Ascii.EqualsIgnoreCase(args[index], word);

    private static async ValueTask ServerAsync(AdminContext cx)
    {
        switch (Encoding.ASCII.GetString(cx.Args[2]).ToUpperInvariant())
        {
            case "LIST":
                List(cx.Reply, cx.Node.Status);
                break;
            case "ADD":
                var added = await AddAsync(
                    cx, cx.Args[3], cx.Args.Length == 5 ? MembershipChangeKind.AddLearner : MembershipChangeKind.AddVoter);
                AnswerDetail(cx.Reply, added);
                break;
            case "REPLACE":
                Answer(cx.Reply, IsAddress(cx.Args[4])
                    ? await cx.Node.ReplaceMemberAsync(NodeText(cx.Args[3]), Text(cx.Args[4]))
                    : NotAnAddress(cx.Args[4]));
                break;
            case var verb:
                Answer(cx.Reply, await ChangeAsync(cx, cx.Args[3], verb switch
                {
                    "PROMOTE" => MembershipChangeKind.Promote,
                    "DEMOTE" => MembershipChangeKind.Demote,
                    _ => MembershipChangeKind.Remove,
                }));
                break;
        }
    }

    private static async ValueTask<AdminOutcome> AddAsync(AdminContext cx, byte[] address, MembershipChangeKind kind) =>
        IsAddress(address)
            ? await cx.Node.ChangeMembershipAsync(new MembershipChange(kind, 0, Text(address)))
            : NotAnAddress(address);

    private static AdminOutcome NotAnAddress(byte[] text) => new(false, $"'{Text(text)}' is not an address, HOST:PORT");

    private static ValueTask<AdminOutcome> ChangeAsync(AdminContext cx, byte[] node, MembershipChangeKind kind) =>
        cx.Node.ChangeMembershipAsync(new MembershipChange(kind, 0, NodeText(node)));

    private static async ValueTask TransferAsync(AdminContext cx) =>
        Answer(cx.Reply, await cx.Node.TransferLeadershipAsync(cx.Args.Length > 2 ? NodeText(cx.Args[2]) : null));

    private static void List(RespWriter reply, NodeStatus status)
    {
        var members = new List<RaftMember>(status.Members);
        members.Sort(static (left, right) => string.CompareOrdinal(left.Address, right.Address));
        reply.ArrayHeader(members.Count);
        foreach (var member in members)
        {
            reply.MapHeader(5);
            Pair(reply, "id", IdOf(member.Id));
            Pair(reply, "address", member.Address);
            Pair(reply, "suffrage", member.Voter ? "voter" : "learner");
            Pair(reply, "state", RaftCommands.StateOf(member, status));

            // Only the leader knows it of others.
            reply.Bulk("match_index"u8);
            if (member.Match is { } match)
            {
                reply.Integer((long)match);
            }
            else
            {
                reply.Null();
            }
        }
    }

    private static async ValueTask SnapshotAsync(AdminContext cx)
    {
        if (Ascii.EqualsIgnoreCase(cx.Args[2], "LIST"))
        {
            ListSnapshots(cx);
        }
        else if (cx.Node.Status.AppliedIndex == 0)
        {
            cx.Reply.Error(RespError.NothingToSnapshot);
        }
        else
        {
            AnswerDetail(cx.Reply, await cx.Node.SnapshotAsync());
        }
    }

    private static void ListSnapshots(AdminContext cx)
    {
        var reply = cx.Reply;
        var snapshots = cx.Node.Snapshots;
        reply.ArrayHeader(snapshots.Count);
        foreach (var snapshot in snapshots)
        {
            reply.MapHeader(5);
            Pair(reply, "id", snapshot.Id);
            reply.Bulk("index"u8);
            reply.Integer((long)snapshot.Position.Index);
            reply.Bulk("term"u8);
            reply.Integer((long)snapshot.Position.Term);
            reply.Bulk("size"u8);
            reply.Integer(snapshot.Size);
            reply.Bulk("unix_ms"u8);
            reply.Integer(snapshot.UnixMs);
        }
    }

    /// <summary>A node's id as people read and type it.</summary>
    internal static string IdOf(ulong node) => node.ToString("x16", CultureInfo.InvariantCulture);

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

    private static void AnswerDetail(RespWriter reply, AdminOutcome outcome)
    {
        if (outcome.Ok)
        {
            reply.Bulk(Encoding.UTF8.GetBytes(outcome.Detail));
        }
        else
        {
            RespError.Because(reply, outcome.Detail);
        }
    }

    /// <summary>A node's id or address. What is longer than any is nobody's, and need not travel to the leader.</summary>
    private static string NodeText(byte[] bytes) => bytes.Length is > 0 and <= byte.MaxValue ? Text(bytes) : "?";

    private static string Text(byte[] bytes) => Encoding.UTF8.GetString(bytes);

    private static void Pair(RespWriter reply, string name, string value)
    {
        reply.Bulk(Encoding.ASCII.GetBytes(name));
        reply.Bulk(Encoding.UTF8.GetBytes(value));
    }
}
