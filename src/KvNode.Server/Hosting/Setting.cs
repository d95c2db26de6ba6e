using System.CommandLine;
using System.CommandLine.Parsing;

namespace KvNode.Server.Hosting;

/// <summary>Reads a value as a person typed it.</summary>
/// <returns>Null when sound, otherwise what is wrong with it.</returns>
internal delegate string? ValueParser<T>(string text, out T value);

/// <summary>What help and the README's table say of a setting.</summary>
internal interface ISetting
{
    /// <summary>The flag, with its two dashes.</summary>
    string Flag { get; }

    /// <summary>The environment variable that stands in when the flag is absent.</summary>
    string Variable { get; }

    /// <summary>Name of the value, or the words it may be.</summary>
    string Value { get; }

    /// <summary>The value without flag and variable, as it would be typed; empty when there is none.</summary>
    string Default { get; }

    string Meaning { get; }
}

/// <summary>One setting: a flag, or else its environment variable, or else its default; all three read by one parser.</summary>
internal sealed class Setting<T> : Option<T>, ISetting
{
    private readonly ValueParser<T> _parse;

    /// <param name="environment">Looks a variable up; null when it is not set.</param>
    public Setting(
        string flag, string value, string defaultText, string meaning, ValueParser<T> parse, Func<string, string?> environment)
        : base(flag)
    {
        Value = value;
        Default = defaultText;
        Meaning = meaning;
        _parse = parse;
        Variable = VariableOf(flag);
        Arity = ArgumentArity.ExactlyOne;
        CustomParser = result => Read(result, Flag, result.Tokens[0].Value);
        DefaultValueFactory = result => environment(Variable) is { Length: > 0 } text
            ? Read(result, Variable, text)
            : Default.Length > 0 ? Read(result, Flag, Default) : default!;
    }

    public string Flag => Name;

    public string Variable { get; }

    public string Value { get; }

    public string Default { get; }

    public string Meaning { get; }

    /// <summary><c>--max-value</c> becomes <c>KVNODE_MAX_VALUE</c>.</summary>
    private static string VariableOf(string flag) => "KVNODE_" + flag[2..].Replace('-', '_').ToUpperInvariant();

    private T Read(ArgumentResult result, string source, string text)
    {
        if (_parse(text, out var value) is { } problem)
        {
            result.AddError($"{source}: {problem}");
        }

        return value!;
    }
}
