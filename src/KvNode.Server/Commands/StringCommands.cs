using System.Text;
using KvNode.Server.Resp;
using KvNode.Storage;

namespace KvNode.Server.Commands;

/// <summary>Strings by key.</summary>
internal static class StringCommands
{
    public static CommandSpec[] Table { get; } =
    [
        new ReadCommand("GET", 2, KeySpec.At(1), CommandFlags.Fast, "string", "Returns the string value of a key.", Get)
        {
            Syntax = "key",
            Acl = AclCategories.String,
        },
        new WriteCommand("SET", -3, KeySpec.At(1), CommandFlags.DenyOutOfSpace, "string",
            "Sets the string value of a key, replacing whatever it held.", Set)
        {
            Syntax = "key value [NX | XX] [GET] [KEEPTTL]",
            Acl = AclCategories.String,
            KeyAccess = KeyAccess.ReadWrite | KeyAccess.Access | KeyAccess.Update | KeyAccess.Variable,
            KeyNotes = "RW and ACCESS due to the optional `GET` argument",
            Check = SetOptionsFit,
        },
        new ReadCommand("MGET", -2, KeySpec.From(1), CommandFlags.Fast, "string",
            "Returns the string values of several keys.", MultiGet)
        {
            Syntax = "key [key ...]",
            Complexity = "O(N) where N is the number of keys.",
            Acl = AclCategories.String,
            Tips = ["request_policy:multi_shard"],
        },
        new WriteCommand("MSET", -3, KeySpec.From(1, 2), CommandFlags.DenyOutOfSpace, "string",
            "Sets several keys to their values in one atomic step.", MultiSet)
        {
            Syntax = "key value [key value ...]",
            Complexity = "O(N) where N is the number of keys.",
            Since = "1.0.1",
            Acl = AclCategories.String,
            KeyAccess = KeyAccess.Overwrite | KeyAccess.Update,
            Tips = ["request_policy:multi_shard", "response_policy:all_succeeded"],
            Check = PairsFit,
        },
        new ReadCommand("STRLEN", 2, KeySpec.At(1), CommandFlags.Fast, "string",
            "Returns the length of a key's string value in bytes.", StringLength)
        {
            Syntax = "key",
            Since = "2.2.0",
            Acl = AclCategories.String,
            KeyAccess = KeyAccess.ReadOnly,
        },
    ];

    private static void Get(ref ReadContext cx)
    {
        if (!cx.Store.TryGet(cx.Args[1], out var value, out var tag))
        {
            cx.Misses++;
            cx.Reply.Null();
            return;
        }

        cx.Hits++;
        if (tag == ValueTag.String)
        {
            cx.Reply.Bulk(value);
        }
        else
        {
            cx.Reply.Error(RespError.WrongType);
        }
    }

    private static void MultiGet(ref ReadContext cx)
    {
        cx.Reply.ArrayHeader(cx.Args.Count - 1);
        for (var i = 1; i < cx.Args.Count; i++)
        {
            var exists = cx.Store.TryGet(cx.Args[i], out var value, out var tag);
            cx.Hits += exists ? 1 : 0;
            cx.Misses += exists ? 0 : 1;

            // As in Redis, a key that is not a string counts as no string, not as an error for all.
            if (exists && tag == ValueTag.String)
            {
                cx.Reply.Bulk(value);
            }
            else
            {
                cx.Reply.Null();
            }
        }
    }

    private static void StringLength(ref ReadContext cx)
    {
        if (!cx.Store.TryGet(cx.Args[1], out var value, out var tag))
        {
            cx.Misses++;
            cx.Reply.Integer(0);
            return;
        }

        cx.Hits++;
        if (tag == ValueTag.String)
        {
            cx.Reply.Integer(value.Length);
        }
        else
        {
            cx.Reply.Error(RespError.WrongType);
        }
    }

    private static void Set(ref WriteContext cx)
    {
        if (cx.Args.Count > 3)
        {
            SetWithOptions(ref cx);
            return;
        }

        cx.Store.Put(cx.Args[1], cx.Args[2]);
        cx.Reply.Ok();
    }

    private static void SetWithOptions(ref WriteContext cx)
    {
        if (!TryParseSetOptions(cx.Args, out var options))
        {
            cx.Reply.Error(RespError.Syntax);
            return;
        }

        var exists = cx.Store.TryGet(cx.Args[1], out var old, out var tag);
        var answersOld = options.HasFlag(SetOptions.Get);
        if (answersOld && exists && tag != ValueTag.String)
        {
            cx.Reply.Error(RespError.WrongType);
            return;
        }

        var refused = options.HasFlag(exists ? SetOptions.IfMissing : SetOptions.IfExists);

        // The old value must be written out before Put: the span dies with the next write.
        if (answersOld && exists)
        {
            cx.Reply.Bulk(old);
        }
        else if (answersOld || refused)
        {
            cx.Reply.Null();
        }
        else
        {
            cx.Reply.Ok();
        }

        if (!refused)
        {
            cx.Store.Put(cx.Args[1], cx.Args[2]);
        }
    }

    private static void MultiSet(ref WriteContext cx)
    {
        for (var i = 1; i + 1 < cx.Args.Count; i += 2)
        {
            cx.Store.Put(cx.Args[i], cx.Args[i + 1]);
        }

        cx.Reply.Ok();
    }

    private static bool PairsFit(CommandArgs args, RespWriter reply)
    {
        if (args.Count % 2 == 1)
        {
            return true;
        }

        RespError.WrongArity(reply, "mset"u8);
        return false;
    }

    private static bool SetOptionsFit(CommandArgs args, RespWriter reply)
    {
        if (args.Count == 3 || TryParseSetOptions(args, out _))
        {
            return true;
        }

        reply.Error(RespError.Syntax);
        return false;
    }

    private static bool TryParseSetOptions(CommandArgs args, out SetOptions options)
    {
        options = SetOptions.None;
        for (var i = 3; i < args.Count; i++)
        {
            var word = args[i];
            if (Ascii.EqualsIgnoreCase(word, "NX"u8))
            {
                options |= SetOptions.IfMissing;
            }
            else if (Ascii.EqualsIgnoreCase(word, "XX"u8))
            {
                options |= SetOptions.IfExists;
            }
            else if (Ascii.EqualsIgnoreCase(word, "GET"u8))
            {
                options |= SetOptions.Get;
            }
            else if (!Ascii.EqualsIgnoreCase(word, "KEEPTTL"u8))
            {
                return false;
            }
        }

        return !options.HasFlag(SetOptions.IfMissing | SetOptions.IfExists);
    }

    [Flags]
    private enum SetOptions
    {
        None = 0,
        IfMissing = 1,
        IfExists = 2,
        Get = 4,
    }
}
