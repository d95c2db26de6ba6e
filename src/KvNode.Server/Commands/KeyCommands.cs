using System.Text;
using KvNode.Server.Resp;
using KvNode.Storage;

namespace KvNode.Server.Commands;

/// <summary>Keys by name, whatever they hold, and the keyspace as a whole.</summary>
internal static class KeyCommands
{
    public static CommandSpec[] Table { get; } =
    [
        new WriteCommand("DEL", -2, KeySpec.From(1), CommandFlags.None, "generic", "Deletes keys.", Delete)
        {
            Syntax = "key [key ...]",
            Complexity = "O(N) where N is the number of keys.",
            Acl = AclCategories.Keyspace,
            KeyAccess = KeyAccess.Remove | KeyAccess.Delete,
            Tips = ["request_policy:multi_shard", "response_policy:agg_sum"],
        },
        new WriteCommand("DELIF", -3, KeySpec.From(2), CommandFlags.None, "generic",
            "Deletes those of the keys whose string value contains the needle; an empty needle is in every value.",
            DeleteIf)
        {
            Syntax = "needle key [key ...]",
            Complexity = "O(N) where N is the number of bytes in the values looked through.",
            Since = "0.1.0",
            Acl = AclCategories.Keyspace,
            KeyAccess = KeyAccess.Remove | KeyAccess.Access | KeyAccess.Delete,
        },
        new ReadCommand("EXISTS", -2, KeySpec.From(1), CommandFlags.Fast, "generic",
            "Counts which of the keys exist; a key named twice counts twice.", Exists)
        {
            Syntax = "key [key ...]",
            Complexity = "O(N) where N is the number of keys.",
            Acl = AclCategories.Keyspace,
            KeyAccess = KeyAccess.ReadOnly,
            Tips = ["request_policy:multi_shard", "response_policy:agg_sum"],
        },
        new ReadCommand("TYPE", 2, KeySpec.At(1), CommandFlags.Fast, "generic",
            "Returns the type of a key's value.", Type)
        {
            Syntax = "key",
            Acl = AclCategories.Keyspace,
            KeyAccess = KeyAccess.ReadOnly,
        },
        new ReadCommand("DBSIZE", 1, KeySpec.None, CommandFlags.Fast, "server", "Returns the number of keys.", Count)
        {
            Acl = AclCategories.Keyspace,
            Tips = ["request_policy:all_shards", "response_policy:agg_sum"],
        },
        new WriteCommand("FLUSHDB", -1, KeySpec.None, CommandFlags.AnyKey, "server", "Deletes every key.", Flush)
        {
            Syntax = "[ASYNC | SYNC]",
            Acl = AclCategories.Keyspace | AclCategories.Dangerous,
            Tips = ["request_policy:all_shards", "response_policy:all_succeeded"],
            Check = FlushOptionsFit,
        },
        new WriteCommand("FLUSHALL", -1, KeySpec.None, CommandFlags.AnyKey, "server", "Deletes every key.", Flush)
        {
            Syntax = "[ASYNC | SYNC]",
            Acl = AclCategories.Keyspace | AclCategories.Dangerous,
            Tips = ["request_policy:all_shards", "response_policy:all_succeeded"],
            Check = FlushOptionsFit,
        },
    ];

    private static void Delete(ref WriteContext cx)
    {
        var deleted = 0;
        for (var i = 1; i < cx.Args.Count; i++)
        {
            deleted += cx.Store.Delete(cx.Args[i]) ? 1 : 0;
        }

        cx.Reply.Integer(deleted);
    }

    private static void DeleteIf(ref WriteContext cx)
    {
        var needle = cx.Args[1];
        var deleted = 0;
        for (var i = 2; i < cx.Args.Count; i++)
        {
            var matches = cx.Store.TryGet(cx.Args[i], out var value, out var tag)
                && tag == ValueTag.String
                && value.IndexOf(needle) >= 0;
            deleted += matches && cx.Store.Delete(cx.Args[i]) ? 1 : 0;
        }

        cx.Reply.Integer(deleted);
    }

    private static void Exists(ref ReadContext cx)
    {
        var existing = 0;
        for (var i = 1; i < cx.Args.Count; i++)
        {
            existing += cx.Store.Exists(cx.Args[i]) ? 1 : 0;
        }

        cx.Hits += existing;
        cx.Misses += cx.Args.Count - 1 - existing;
        cx.Reply.Integer(existing);
    }

    private static void Type(ref ReadContext cx)
    {
        if (!cx.Store.TryGet(cx.Args[1], out _, out var tag))
        {
            cx.Misses++;
            cx.Reply.SimpleString("none"u8);
            return;
        }

        cx.Hits++;
        cx.Reply.SimpleString(tag switch
        {
            ValueTag.Hash => "hash"u8,
            ValueTag.List => "list"u8,
            ValueTag.Set => "set"u8,
            ValueTag.SortedSet => "zset"u8,
            _ => "string"u8,
        });
    }

    private static void Count(ref ReadContext cx) => cx.Reply.Integer(cx.Store.Count);

    private static void Flush(ref WriteContext cx)
    {
        // ASYNC and SYNC make no difference here: emptying the store is cheap whatever its size.
        cx.Store.Clear();
        cx.Reply.Ok();
    }

    private static bool FlushOptionsFit(CommandArgs args, RespWriter reply)
    {
        if (args.Count == 1
            || (args.Count == 2
                && (Ascii.EqualsIgnoreCase(args[1], "ASYNC"u8) || Ascii.EqualsIgnoreCase(args[1], "SYNC"u8))))
        {
            return true;
        }

        reply.Error(RespError.Syntax);
        return false;
    }
}
