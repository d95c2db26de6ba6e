using System.Globalization;
using System.Text;
using KvNode.Raft;
using KvNode.Server.Resp;

namespace KvNode.Server.Commands;

/// <summary>
/// As much of Redis Cluster as its clients need to find the leader: one shard of all slots, the leader its master, the other
/// members its replicas. Without a leader there is no shard.
/// </summary>
internal static class ClusterCommands
{
    public static CommandSpec[] Table { get; } =
    [
        new ContainerCommand("CLUSTER", "cluster", "The cluster as Redis Cluster's clients see one.")
        {
            Since = "3.0.0",
            Complexity = "Depends on subcommand.",
            Subcommands = Subcommands(),
        },
    ];

    private static CommandSpec[] Subcommands() =>
    [
        new LocalCommand("CLUSTER|INFO", 2, CommandFlags.Stale, "cluster", "Returns the cluster's state as text.", Info)
        {
            Since = "3.0.0",
            Tips = ["nondeterministic_output"],
        },
        new LocalCommand("CLUSTER|KEYSLOT", 3, CommandFlags.Stale, "cluster", "Returns the hash slot of a key.",
            (ref LocalContext cx) => cx.Reply.Integer(ClusterSlots.Of(cx.Args[2])))
        {
            Syntax = "key",
            Since = "3.0.0",
            Complexity = "O(N) where N is the length of the key.",
        },
        new LocalCommand("CLUSTER|MYID", 2, CommandFlags.Stale, "cluster", "Returns this node's id.",
            (ref LocalContext cx) => Bulk(cx.Reply, IdOf(cx.Node.Status.NodeId)))
        {
            Since = "3.0.0",
        },
        new LocalCommand("CLUSTER|NODES", 2, CommandFlags.Stale, "cluster", "Returns the members as text, one a line.", Nodes)
        {
            Since = "3.0.0",
            Complexity = "O(N) where N is the number of members.",
            Tips = ["nondeterministic_output"],
        },
        new LocalCommand("CLUSTER|SHARDS", 2, CommandFlags.Stale, "cluster",
            "Returns the one shard and its nodes, or nothing while there is no leader.", Shards)
        {
            Since = "7.0.0",
            Complexity = "O(N) where N is the number of members.",
            Tips = ["nondeterministic_output"],
        },
        new LocalCommand("CLUSTER|SLOTS", 2, CommandFlags.Stale, "cluster",
            "Returns the one range of slots and its nodes, or nothing while there is no leader.", Slots)
        {
            Since = "3.0.0",
            Complexity = "O(N) where N is the number of members.",
            Tips = ["nondeterministic_output"],
        },
        new LocalCommand("CLUSTER|HELP", 2, CommandFlags.Loading | CommandFlags.Stale, "cluster", "Prints this help.",
            (ref LocalContext cx) => CommandHelp.Write(cx.Reply, "CLUSTER"))
        {
            Since = "5.0.0",
        },
    ];

    private static void Info(ref LocalContext cx)
    {
        var status = cx.Node.Status;
        var (state, slots) = status.LeaderId != 0 ? ("ok", ClusterSlots.Count) : ("fail", 0);
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"cluster_state:{state}\r\ncluster_slots_assigned:{slots}\r\n");
        text.Append(CultureInfo.InvariantCulture, $"cluster_slots_ok:{slots}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n");
        text.Append(CultureInfo.InvariantCulture, $"cluster_known_nodes:{status.Members.Count}\r\n");
        text.Append(CultureInfo.InvariantCulture, $"cluster_size:{(slots > 0 ? 1 : 0)}\r\n");
        text.Append(CultureInfo.InvariantCulture, $"cluster_current_epoch:{status.Term}\r\ncluster_my_epoch:{status.Term}\r\n");
        cx.Reply.VerbatimText(Encoding.ASCII.GetBytes(text.ToString()));
    }

    private static void Nodes(ref LocalContext cx)
    {
        var status = cx.Node.Status;
        var text = new StringBuilder();
        foreach (var member in LeaderFirst(status))
        {
            var leads = member.Id == status.LeaderId;
            var flags = (member.Id == status.NodeId ? "myself," : "") + (leads ? "master" : "slave");
            var master = leads || status.LeaderId == 0 ? "-" : IdOf(status.LeaderId);
            var link = member.Role is null ? "disconnected" : "connected";
            text.Append(CultureInfo.InvariantCulture, $"{IdOf(member.Id)} {member.Address}@0 {flags} {master} 0 0 {status.Term} {link}");
            text.Append(leads ? " 0-16383\n" : "\n");
        }

        cx.Reply.VerbatimText(Encoding.UTF8.GetBytes(text.ToString()));
    }

    private static void Slots(ref LocalContext cx)
    {
        var status = cx.Node.Status;
        var reply = cx.Reply;
        if (status.LeaderId == 0)
        {
            reply.ArrayHeader(0);
            return;
        }

        var members = LeaderFirst(status);
        reply.ArrayHeader(1);
        reply.ArrayHeader(2 + members.Count);
        reply.Integer(0);
        reply.Integer(ClusterSlots.Count - 1);
        foreach (var member in members)
        {
            var (host, port) = Split(member.Address);
            reply.ArrayHeader(4);
            Bulk(reply, host);
            reply.Integer(port);
            Bulk(reply, IdOf(member.Id));
            reply.MapHeader(0);
        }
    }

    private static void Shards(ref LocalContext cx)
    {
        var status = cx.Node.Status;
        var reply = cx.Reply;
        if (status.LeaderId == 0)
        {
            reply.ArrayHeader(0);
            return;
        }

        var members = LeaderFirst(status);
        reply.ArrayHeader(1);
        reply.MapHeader(2);
        reply.Bulk("slots"u8);
        reply.ArrayHeader(2);
        reply.Integer(0);
        reply.Integer(ClusterSlots.Count - 1);
        reply.Bulk("nodes"u8);
        reply.ArrayHeader(members.Count);
        foreach (var member in members)
        {
            var (host, port) = Split(member.Address);
            reply.MapHeader(7);
            Pair(reply, "id", IdOf(member.Id));
            reply.Bulk("port"u8);
            reply.Integer(port);
            Pair(reply, "ip", host);
            Pair(reply, "endpoint", host);
            Pair(reply, "role", member.Id == status.LeaderId ? "master" : "replica");
            reply.Bulk("replication-offset"u8);
            reply.Integer((long)(member.Match ?? 0));
            Pair(reply, "health", member.Role is null ? "fail" : "online");
        }
    }

    private static List<RaftMember> LeaderFirst(NodeStatus status)
    {
        var members = new List<RaftMember>(status.Members);
        members.Sort((left, right) =>
            (left.Id == status.LeaderId, right.Id == status.LeaderId) switch
            {
                (true, false) => -1,
                (false, true) => 1,
                _ => string.CompareOrdinal(left.Address, right.Address),
            });
        return members;
    }

    // Redis's ids have forty digits, and clients rely on it.
    private static string IdOf(ulong node) => node.ToString("x40", CultureInfo.InvariantCulture);

    internal static (string Host, int Port) Split(string address)
    {
        var colon = address.LastIndexOf(':');
        return colon > 0 && int.TryParse(address.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var port)
            ? (address[..colon].Trim('[', ']'), port)
            : (address, 0);
    }

    private static void Pair(RespWriter reply, string name, string value)
    {
        Bulk(reply, name);
        Bulk(reply, value);
    }

    private static void Bulk(RespWriter reply, string text) => reply.Bulk(Encoding.UTF8.GetBytes(text));
}
