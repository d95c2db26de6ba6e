using System.Text;
using KvNode.Server.Resp;

namespace KvNode.Server.Commands;

/// <summary>COMMAND: the table about itself.</summary>
internal static class IntrospectionCommands
{
    private const CommandFlags Anytime = CommandFlags.Loading | CommandFlags.Stale;

    public static CommandSpec[] Table { get; } =
    [
        new LocalCommand("COMMAND", -1, Anytime, "server", "Describes every command.", DescribeAll)
        {
            Since = "2.8.13",
            Complexity = "O(N) where N is the number of commands.",
            Acl = AclCategories.Connection,
            Tips = ["nondeterministic_output_order"],
            Subcommands = Subcommands(),
        },
    ];

    private static CommandSpec[] Subcommands() =>
    [
        new LocalCommand("COMMAND|COUNT", 2, Anytime, "server", "Returns the number of commands.",
            (ref LocalContext cx) => cx.Reply.Integer(CommandTable.Default.Rows.Length))
        {
            Since = "2.8.13",
            Acl = AclCategories.Connection,
        },
        new LocalCommand("COMMAND|INFO", -2, Anytime, "server", "Describes the commands named, or all.", Describe)
        {
            Syntax = "[command-name [command-name ...]]",
            Since = "2.8.13",
            Complexity = "O(N) where N is the number of commands.",
            Acl = AclCategories.Connection,
            Tips = ["nondeterministic_output_order"],
        },
        new LocalCommand("COMMAND|DOCS", -2, Anytime, "server", "Documents the commands named, or all.", Document)
        {
            Syntax = "[command-name [command-name ...]]",
            Since = "7.0.0",
            Complexity = "O(N) where N is the number of commands.",
            Acl = AclCategories.Connection,
            Tips = ["nondeterministic_output_order"],
        },
        new LocalCommand("COMMAND|LIST", -2, Anytime, "server",
            "Returns the names of all commands, or of those of a category or a pattern.", List)
        {
            Syntax = "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
            Since = "7.0.0",
            Complexity = "O(N) where N is the number of commands.",
            Acl = AclCategories.Connection,
            Tips = ["nondeterministic_output_order"],
        },
        new LocalCommand("COMMAND|GETKEYS", -4, Anytime, "server", "Returns the keys a whole command names.", GetKeys)
        {
            Syntax = "command arg [arg ...]",
            Since = "2.8.13",
            Complexity = "O(N) where N is the number of arguments.",
            Acl = AclCategories.Connection,
        },
        new LocalCommand("COMMAND|HELP", 2, Anytime, "server", "Prints this help.",
            (ref LocalContext cx) => CommandHelp.Write(cx.Reply, "COMMAND"))
        {
            Since = "5.0.0",
            Acl = AclCategories.Connection,
        },
    ];

    private static void DescribeAll(ref LocalContext cx)
    {
        var rows = CommandTable.Default.Rows;
        cx.Reply.ArrayHeader(rows.Length);
        foreach (var row in rows)
        {
            CommandDescription.WriteInfo(cx.Reply, row);
        }
    }

    private static void Describe(ref LocalContext cx)
    {
        if (cx.Args.Count == 2)
        {
            DescribeAll(ref cx);
            return;
        }

        cx.Reply.ArrayHeader(cx.Args.Count - 2);
        for (var i = 2; i < cx.Args.Count; i++)
        {
            if (CommandTable.Default.TryFindFull(cx.Args[i], out var row))
            {
                CommandDescription.WriteInfo(cx.Reply, row);
            }
            else
            {
                cx.Reply.Null();
            }
        }
    }

    private static void Document(ref LocalContext cx)
    {
        var rows = new List<CommandSpec>();
        if (cx.Args.Count == 2)
        {
            rows.AddRange(CommandTable.Default.Rows);
        }

        for (var i = 2; i < cx.Args.Count; i++)
        {
            // Unknown names are left out, as in Redis.
            if (CommandTable.Default.TryFindFull(cx.Args[i], out var row))
            {
                rows.Add(row);
            }
        }

        cx.Reply.MapHeader(rows.Count);
        foreach (var row in rows)
        {
            CommandDescription.WriteDocs(cx.Reply, row);
        }
    }

    private static void List(ref LocalContext cx)
    {
        var names = new List<string>();
        var filtered = cx.Args.Count == 5 && Ascii.EqualsIgnoreCase(cx.Args[2], "FILTERBY"u8);
        if (!filtered && cx.Args.Count != 2)
        {
            cx.Reply.Error(RespError.Syntax);
            return;
        }

        var filter = filtered ? FilterOf(cx.Args[3]) : NameFilter.All;
        if (filter == NameFilter.Unknown)
        {
            cx.Reply.Error(RespError.Syntax);
            return;
        }

        var operand = filtered ? cx.Args[4] : default;
        foreach (var row in CommandTable.Default.Rows)
        {
            AddIfWanted(names, row, filter, operand);
            foreach (var subcommand in row.Subcommands)
            {
                AddIfWanted(names, subcommand, filter, operand);
            }
        }

        cx.Reply.ArrayHeader(names.Count);
        foreach (var name in names)
        {
            cx.Reply.Bulk(Encoding.ASCII.GetBytes(name));
        }
    }

    private static void AddIfWanted(List<string> names, CommandSpec row, NameFilter filter, ReadOnlySpan<byte> operand)
    {
        var wanted = filter switch
        {
            NameFilter.All => true,
            NameFilter.Category => CommandDescription.IsInCategory(row, operand),
            NameFilter.Pattern => CommandGlob.MatchesIgnoringCase(operand, row.DisplayName),
            _ => false,
        };
        if (wanted)
        {
            names.Add(row.DisplayName);
        }
    }

    private static NameFilter FilterOf(ReadOnlySpan<byte> word)
    {
        if (Ascii.EqualsIgnoreCase(word, "MODULE"u8))
        {
            return NameFilter.Module;
        }

        if (Ascii.EqualsIgnoreCase(word, "ACLCAT"u8))
        {
            return NameFilter.Category;
        }

        return Ascii.EqualsIgnoreCase(word, "PATTERN"u8) ? NameFilter.Pattern : NameFilter.Unknown;
    }

    private static void GetKeys(ref LocalContext cx)
    {
        const int Offset = 2;
        var count = cx.Args.Count - Offset;
        if (!CommandTable.Default.TryFind(cx.Args[Offset], out var row)
            || (row.SubcommandNames is { } names && !names.TryFind(cx.Args[Offset + 1], out row)))
        {
            cx.Reply.Error(RespError.GetKeysInvalidCommand);
            return;
        }

        if (row.Keys.First == 0)
        {
            cx.Reply.Error(RespError.GetKeysNoKeys);
            return;
        }

        if (!row.ArityFits(count))
        {
            cx.Reply.Error(RespError.GetKeysArity);
            return;
        }

        var keys = row.Keys;
        var last = keys.Last < 0 ? count + keys.Last : keys.Last;
        cx.Reply.ArrayHeader(((last - keys.First) / keys.Step) + 1);
        for (var i = keys.First; i <= last; i += keys.Step)
        {
            cx.Reply.Bulk(cx.Args[Offset + i]);
        }
    }

    private enum NameFilter
    {
        All,

        /// <summary>There are no modules, so no command is of one.</summary>
        Module,
        Category,
        Pattern,
        Unknown,
    }
}
