using System.Text;
using KvNode.Server.Resp;

namespace KvNode.Server.Commands;

/// <summary>The HELP subcommand of a container, made from its rows.</summary>
internal static class CommandHelp
{
    /// <summary>
    /// Redis's form: an array of lines, a head, then per subcommand its syntax and, indented, its summary.
    /// </summary>
    public static void Write(RespWriter reply, string container)
    {
        CommandTable.Default.TryFind(Encoding.ASCII.GetBytes(container), out var spec);
        var subcommands = spec!.Subcommands;
        reply.ArrayHeader(1 + (2 * subcommands.Length));
        Line(reply, $"{spec.Name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
        foreach (var subcommand in subcommands)
        {
            Line(reply, $"{CommandNames.KeyOf(subcommand)} {subcommand.Syntax}".TrimEnd());
            Line(reply, $"    {subcommand.Summary}");
        }
    }

    private static void Line(RespWriter reply, string text) => reply.SimpleString(Encoding.UTF8.GetBytes(text));
}
