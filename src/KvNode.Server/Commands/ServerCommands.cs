using System.Text;
using KvNode.Server.Resp;

namespace KvNode.Server.Commands;

/// <summary>The server as a whole.</summary>
internal static class ServerCommands
{
    private const CommandFlags Anytime = CommandFlags.Loading | CommandFlags.Stale;

    public static CommandSpec[] Table { get; } =
    [
        new LocalCommand("INFO", -1, Anytime, "server", "Returns the server's facts and counters as text.", Info)
        {
            Syntax = "[section [section ...]]",
            Acl = AclCategories.Dangerous,
            Tips = ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        },
        new ContainerCommand("CONFIG", "server", "Settings.")
        {
            Since = "2.0.0",
            Complexity = "Depends on subcommand.",
            Subcommands = ConfigSubcommands(),
        },
        new LocalCommand("SHUTDOWN", -1,
            Anytime | CommandFlags.Admin | CommandFlags.NoScript | CommandFlags.NoMulti | CommandFlags.AllowBusy,
            "server", "Closes the stores cleanly and stops this node.", Shutdown)
        {
            Syntax = "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
            Complexity = "O(N) where N is the number of keys not yet flushed.",
        },
    ];

    private static CommandSpec[] ConfigSubcommands() =>
    [
        new LocalCommand("CONFIG|GET", -3, Anytime | CommandFlags.Admin | CommandFlags.NoScript, "server",
            "Returns names and values of the settings whose names match.", ConfigGet)
        {
            Syntax = "parameter [parameter ...]",
            Complexity = "O(N) where N is the number of patterns.",
            Since = "2.0.0",
        },
        new LocalCommand("CONFIG|HELP", 2, Anytime, "server", "Prints this help.",
            (ref LocalContext cx) => CommandHelp.Write(cx.Reply, "CONFIG"))
        {
            Since = "5.0.0",
        },
    ];

    private static void Info(ref LocalContext cx)
    {
        var wanted = new string[cx.Args.Count - 1];
        for (var i = 0; i < wanted.Length; i++)
        {
            wanted[i] = Encoding.UTF8.GetString(cx.Args[i + 1]);
        }

        cx.Reply.VerbatimText(Encoding.UTF8.GetBytes(InfoReport.Write(cx.Node, wanted)));
    }

    private static void ConfigGet(ref LocalContext cx)
    {
        var settings = cx.Node.Settings;
        var found = new List<KeyValuePair<string, string>>();
        foreach (var setting in settings)
        {
            for (var i = 2; i < cx.Args.Count; i++)
            {
                if (CommandGlob.MatchesIgnoringCase(cx.Args[i], setting.Key))
                {
                    found.Add(setting);
                    break;
                }
            }
        }

        cx.Reply.MapHeader(found.Count);
        foreach (var (name, value) in found)
        {
            cx.Reply.Bulk(Encoding.UTF8.GetBytes(name));
            cx.Reply.Bulk(Encoding.UTF8.GetBytes(value));
        }
    }

    private static void Shutdown(ref LocalContext cx)
    {
        bool save = false, noSave = false, abort = false, other = false;
        for (var i = 1; i < cx.Args.Count; i++)
        {
            var word = cx.Args[i];
            save |= Ascii.EqualsIgnoreCase(word, "SAVE"u8);
            noSave |= Ascii.EqualsIgnoreCase(word, "NOSAVE"u8);
            abort |= Ascii.EqualsIgnoreCase(word, "ABORT"u8);
            other |= !IsShutdownWord(word);
        }

        if (other || (save && noSave) || (abort && cx.Args.Count > 2))
        {
            cx.Reply.Error(RespError.Syntax);
        }
        else if (abort)
        {
            cx.Reply.Error("ERR No shutdown in progress."u8);
        }
        else
        {
            // Everything acknowledged is on disk already, so SAVE and NOSAVE, NOW and FORCE are all the same clean
            // stop. As in Redis there is no reply: the client sees the connection close.
            cx.Node.RequestShutdown();
            cx.Client.CloseAfterReply();
        }
    }

    private static bool IsShutdownWord(ReadOnlySpan<byte> word) =>
        Ascii.EqualsIgnoreCase(word, "SAVE"u8) || Ascii.EqualsIgnoreCase(word, "NOSAVE"u8)
        || Ascii.EqualsIgnoreCase(word, "NOW"u8) || Ascii.EqualsIgnoreCase(word, "FORCE"u8)
        || Ascii.EqualsIgnoreCase(word, "ABORT"u8);
}
