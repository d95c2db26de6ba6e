using System.Text;
using KvNode.Server.Resp;

namespace KvNode.Server.Commands;

/// <summary>Rows as COMMAND INFO and COMMAND DOCS show them, in Redis 7.0's shapes.</summary>
internal static class CommandDescription
{
    // In the order in which Redis lists them.
    private static readonly (CommandFlags Flag, string Name)[] FlagNames =
    [
        (CommandFlags.Write, "write"),
        (CommandFlags.ReadOnly, "readonly"),
        (CommandFlags.DenyOutOfSpace, "denyoom"),
        (CommandFlags.Admin, "admin"),
        (CommandFlags.NoScript, "noscript"),
        (CommandFlags.Loading, "loading"),
        (CommandFlags.Stale, "stale"),
        (CommandFlags.Fast, "fast"),
        (CommandFlags.NoAuth, "no_auth"),
        (CommandFlags.NoMulti, "no_multi"),
        (CommandFlags.MovableKeys, "movablekeys"),
        (CommandFlags.AllowBusy, "allow_busy"),
    ];

    private static readonly (AclCategories Category, string Name)[] CategoryNames =
    [
        (AclCategories.Keyspace, "keyspace"),
        (AclCategories.Read, "read"),
        (AclCategories.Write, "write"),
        (AclCategories.String, "string"),
        (AclCategories.Admin, "admin"),
        (AclCategories.Fast, "fast"),
        (AclCategories.Slow, "slow"),
        (AclCategories.Dangerous, "dangerous"),
        (AclCategories.Connection, "connection"),
    ];

    private static readonly (KeyAccess Access, string Name)[] AccessNames =
    [
        (KeyAccess.ReadOnly, "RO"),
        (KeyAccess.ReadWrite, "RW"),
        (KeyAccess.Overwrite, "OW"),
        (KeyAccess.Remove, "RM"),
        (KeyAccess.Access, "access"),
        (KeyAccess.Update, "update"),
        (KeyAccess.Insert, "insert"),
        (KeyAccess.Delete, "delete"),
        (KeyAccess.Variable, "variable_flags"),
    ];

    public static bool IsInCategory(CommandSpec row, ReadOnlySpan<byte> category)
    {
        foreach (var (flag, name) in CategoryNames)
        {
            if (row.AllCategories.HasFlag(flag) && Ascii.EqualsIgnoreCase(category, name))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>
    /// Ten elements: name, arity, flags, first key, last key, step, ACL categories, tips, key specifications,
    /// subcommands.
    /// </summary>
    public static void WriteInfo(RespWriter reply, CommandSpec row)
    {
        reply.ArrayHeader(10);
        Bulk(reply, row.DisplayName);
        reply.Integer(row.Arity);
        WriteFlags(reply, row.Flags);
        reply.Integer(row.Keys.First);
        reply.Integer(row.Keys.Last);
        reply.Integer(row.Keys.Step);
        WriteCategories(reply, row.AllCategories);
        reply.SetHeader(row.Tips.Length);
        foreach (var tip in row.Tips)
        {
            Bulk(reply, tip);
        }

        reply.SetHeader(row.Keys.First > 0 ? 1 : 0);
        if (row.Keys.First > 0)
        {
            WriteKeySpec(reply, row);
        }

        if (row.Subcommands.Length == 0)
        {
            reply.SetHeader(0);
            return;
        }

        reply.ArrayHeader(row.Subcommands.Length);
        foreach (var subcommand in row.Subcommands)
        {
            WriteInfo(reply, subcommand);
        }
    }

    /// <summary>
    /// The name and a map: summary, since, group, complexity, and where there are any, arguments and subcommands.
    /// </summary>
    public static void WriteDocs(RespWriter reply, CommandSpec row)
    {
        var arguments = CommandSyntax.Parse(row.Syntax, row.Keys.First > 0);
        Bulk(reply, row.DisplayName);
        reply.MapHeader(4 + (arguments.Length > 0 ? 1 : 0) + (row.Subcommands.Length > 0 ? 1 : 0));
        Pair(reply, "summary"u8, row.Summary);
        Pair(reply, "since"u8, row.Since);
        Pair(reply, "group"u8, row.Group);
        Pair(reply, "complexity"u8, row.Complexity);
        if (arguments.Length > 0)
        {
            WriteArguments(reply, arguments);
        }

        if (row.Subcommands.Length > 0)
        {
            reply.Bulk("subcommands"u8);
            reply.MapHeader(row.Subcommands.Length);
            foreach (var subcommand in row.Subcommands)
            {
                WriteDocs(reply, subcommand);
            }
        }
    }

    private static void WriteArguments(RespWriter reply, CommandArgument[] arguments)
    {
        reply.Bulk("arguments"u8);
        reply.ArrayHeader(arguments.Length);
        foreach (var argument in arguments)
        {
            var isKey = argument.Type == "key";
            var flags = (argument.Optional ? 1 : 0) + (argument.Multiple ? 1 : 0);
            reply.MapHeader(2 + (isKey ? 1 : 0) + (argument.Token.Length > 0 ? 1 : 0) + (flags > 0 ? 1 : 0)
                + (argument.Arguments.Length > 0 ? 1 : 0));
            Pair(reply, "name"u8, argument.Name);
            Pair(reply, "type"u8, argument.Type);
            if (isKey)
            {
                reply.Bulk("key_spec_index"u8);
                reply.Integer(0);
            }

            if (argument.Token.Length > 0)
            {
                Pair(reply, "token"u8, argument.Token);
            }

            if (flags > 0)
            {
                reply.Bulk("flags"u8);
                reply.SetHeader(flags);
                Status(reply, argument.Optional, "optional"u8);
                Status(reply, argument.Multiple, "multiple"u8);
            }

            if (argument.Arguments.Length > 0)
            {
                WriteArguments(reply, argument.Arguments);
            }
        }
    }

    private static void WriteKeySpec(RespWriter reply, CommandSpec row)
    {
        reply.MapHeader(row.KeyNotes.Length > 0 ? 4 : 3);
        if (row.KeyNotes.Length > 0)
        {
            Pair(reply, "notes"u8, row.KeyNotes);
        }

        reply.Bulk("flags"u8);
        WriteAccess(reply, row.KeyAccess);
        reply.Bulk("begin_search"u8);
        reply.MapHeader(2);
        Pair(reply, "type"u8, "index");
        reply.Bulk("spec"u8);
        reply.MapHeader(1);
        reply.Bulk("index"u8);
        reply.Integer(row.Keys.First);
        reply.Bulk("find_keys"u8);
        reply.MapHeader(2);
        Pair(reply, "type"u8, "range");
        reply.Bulk("spec"u8);
        reply.MapHeader(3);

        // Counted from the first key, or from the end when negative.
        reply.Bulk("lastkey"u8);
        reply.Integer(row.Keys.Last < 0 ? row.Keys.Last : row.Keys.Last - row.Keys.First);
        reply.Bulk("keystep"u8);
        reply.Integer(row.Keys.Step);
        reply.Bulk("limit"u8);
        reply.Integer(0);
    }

    private static void WriteFlags(RespWriter reply, CommandFlags flags)
    {
        reply.SetHeader(FlagNames.Count(pair => flags.HasFlag(pair.Flag)));
        foreach (var (flag, name) in FlagNames)
        {
            Status(reply, flags.HasFlag(flag), Encoding.ASCII.GetBytes(name));
        }
    }

    private static void WriteCategories(RespWriter reply, AclCategories categories)
    {
        reply.SetHeader(CategoryNames.Count(pair => categories.HasFlag(pair.Category)));
        foreach (var (category, name) in CategoryNames)
        {
            Status(reply, categories.HasFlag(category), Encoding.ASCII.GetBytes($"@{name}"));
        }
    }

    private static void WriteAccess(RespWriter reply, KeyAccess access)
    {
        reply.SetHeader(AccessNames.Count(pair => access.HasFlag(pair.Access)));
        foreach (var (flag, name) in AccessNames)
        {
            Status(reply, access.HasFlag(flag), Encoding.ASCII.GetBytes(name));
        }
    }

    private static void Status(RespWriter reply, bool present, ReadOnlySpan<byte> name)
    {
        if (present)
        {
            reply.SimpleString(name);
        }
    }

    private static void Bulk(RespWriter reply, string text) => reply.Bulk(Encoding.UTF8.GetBytes(text));

    private static void Pair(RespWriter reply, ReadOnlySpan<byte> name, string value)
    {
        reply.Bulk(name);
        Bulk(reply, value);
    }
}
